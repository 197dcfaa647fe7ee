/* kernels/device.c on the walled tables: every device that a program opens is behind the wall. */
#define lemoe_cpu_memory_ops  wall_memory_ops
#define lemoe_cpu_compute_ops wall_compute_ops
#include "kernels/device.c"
