/* A device's PCI Express Device Serial Number. */
#pragma once

#include "core/host.h"

/* Reads it from @config, an open file of the device's configuration space, into @ret as lspci
 * prints it. False when there is none, or none that can be read: the device does not answer, has
 * no extended space, or we are not let at it (CAP_SYS_ADMIN). */
bool serial_read(int config, char ret[static PCI_SERIAL_BUFFER]);

/* The same of the function at @address. */
bool serial_survey(PciAddress address, char ret[static PCI_SERIAL_BUFFER]);
