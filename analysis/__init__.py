"""Tables and figures from the HDF5 files that lemoe-run writes; see README.md."""
