lemoe_unit_test(test_score LINK lemoe_eval lemoe_base m)
lemoe_unit_test(test_evaluator LINK lemoe_eval lemoe_results lemoe_base m)
lemoe_unit_test(test_routing LINK lemoe_eval lemoe_results lemoe_base m)
