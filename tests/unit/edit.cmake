lemoe_unit_test(test_editor_lemoe LINK lemoe_edit lemoe_base m)
