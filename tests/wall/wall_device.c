/* kernels/device.c on the walled tables: every device that a program opens is behind the wall. */
#define lemoe_cpu_backend wall_backend
#include "kernels/device.c"
