lemoe_unit_test(test_state LINK lemoe_state lemoe_kernels lemoe_io lemoe_base m)
