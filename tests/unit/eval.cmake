lemoe_unit_test(test_score LINK lemoe_eval lemoe_base m)
