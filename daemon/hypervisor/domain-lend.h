/* For the time of its start, and no longer, a machine's definition says that libvirt is to manage
 * the functions of its cards. libvirt keeps a record of each function that it has given to a
 * domain, and once that is of an unmanaged one, a managed domain of somebody else's that takes the
 * card later does not give it back: it goes by the old record (libvirt 9.0 to 11.3,
 * src/hypervisor/virhostdev.c: virHostdevReattachAllPCIDevices(), and virPCIDeviceDetach() in
 * src/util/virpci.c, which adds no second record). Of a managed function that is on vfio-pci
 * already libvirt touches nothing, neither when the domain starts nor when it ends, and then it
 * drops its record.
 *
 * At rest the definition says "no": who starts the machine with virsh is refused while its cards
 * are the host's, instead of having libvirt unbind their drivers with all its host devices locked.
 */
#pragma once

#include "core/hypervisor.h"

struct _virDomain;

/* Makes the definition of @domain ready to be started: its functions managed, unless one of them is
 * not on vfio-pci; then libvirt is to refuse it. Also lets its console's log follow its name. A
 * definition that libvirt does not take is started as it is. False: the definition could not be
 * had, and libvirt's error says why. Blocks. domain_take_back() must follow. */
bool domain_lend(struct _virDomain *domain);

/* The start has ended, well or not. Keeps libvirt's last error out of reach: take it before.
 * Blocks.
 */
void domain_take_back(struct _virDomain *domain, bool started);

/* For a look at a domain that is off or, @started, past its start: takes back what was lent to a
 * start that never came to its end, as when this daemon was killed, and says so in @facts. Blocks.
 */
void domain_mend(struct _virDomain *domain, DomainFacts *facts, bool started);
