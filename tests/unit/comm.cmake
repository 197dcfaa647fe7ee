# One rank; what needs several is in tests/parallel.
lemoe_unit_test(test_comm_self LINK lemoe_comm lemoe_base m)
