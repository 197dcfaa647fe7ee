lemoe_unit_test(test_adamw LINK lemoe_optim lemoe_comm lemoe_base m)
