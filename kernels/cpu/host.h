/* host.h - what of this machine this process may use: its own limits, not the machine's size. */
#ifndef KERNELS_CPU_HOST_H
#define KERNELS_CPU_HOST_H

#include <stddef.h>

int    host_cpus(void);                        /* CPUs: affinity mask and the cgroup's quota, at least 1 */
size_t host_memory(void);                      /* bytes free now: MemAvailable and what the cgroups leave */
void   host_cpu_name(char *text, size_t size); /* "AMD EPYC" */

#endif
