lemoe_unit_test(test_dataset LINK lemoe_data lemoe_io lemoe_base m)
lemoe_unit_test(test_tokenizer LINK lemoe_data lemoe_io lemoe_base m)
lemoe_unit_test(test_edit_stream LINK lemoe_data lemoe_io lemoe_base m)
