lemoe_unit_test(test_config LINK lemoe_config)
lemoe_unit_test(test_config_sweep LINK lemoe_config)
lemoe_unit_test(test_config_identity LINK lemoe_config PkgConfig::XXHASH)
