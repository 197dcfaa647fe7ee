set(RESULTS_LINK lemoe_results lemoe_io lemoe_base)
lemoe_unit_test(test_crc32c LINK lemoe_io lemoe_base)
lemoe_unit_test(test_lease LINK lemoe_io lemoe_base)
lemoe_unit_test(test_signals LINK lemoe_io lemoe_base)
lemoe_unit_test(test_signal_products LINK lemoe_io lemoe_kernels lemoe_base)
lemoe_unit_test(test_journal LINK ${RESULTS_LINK})
lemoe_unit_test(test_results LINK ${RESULTS_LINK})
# Reads what was published with the library itself, and with the Python checks of tests/e2e.
lemoe_unit_test(test_publish LINK ${RESULTS_LINK} PkgConfig::HDF5)
