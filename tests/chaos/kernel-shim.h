/* How kernel-shim.c says to whom traces a program that the program has the fake kernel: it closes
 * this. */
#pragma once

#define KERNEL_IS_THERE (-77777)
