lemoe_unit_test(test_json LINK lemoe_io lemoe_base m)
lemoe_unit_test(test_file LINK lemoe_io lemoe_base m)
lemoe_unit_test(test_child LINK lemoe_io lemoe_base m)
