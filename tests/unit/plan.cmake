lemoe_unit_test(test_plan LINK lemoe_plan lemoe_base m)
