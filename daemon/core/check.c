/* The judgement of a request. It is given facts and gives findings; it asks nobody and changes
 * nothing, so what Check says is what Create would say. Every finding names its thing and the way
 * out. */
#include "core/check.h"

#include <errno.h>

bool device_facts_lead_card(const DeviceFacts *facts) {
        if (!pci_function_is_gpu(&facts->function))
                return false;
        for (guint i = 0; i < facts->companions->len; i++) {
                const PciFunction *companion = &g_array_index(facts->companions, PciFunction, i);

                if (pci_function_is_gpu(companion) &&
                    pci_address_compare(companion->address, facts->function.address) < 0)
                        return false;
        }
        return true;
}

Refusal *host_unread_refusal(const char *subject) {
        Refusal *refusal = refusal_new(
                REFUSAL_INVALID_STATE, subject,
                "Try again in a moment; df /run and ulimit -n of the service may say what it "
                "lacks.",
                "What the host has could not be read (%s), so nothing is known of it now.",
                subject);

        refusal->passing = true;
        return refusal;
}

Refusal *unread_refusal(PciAddress address) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        return refusal_new(REFUSAL_INVALID_STATE, shown,
                           "Try again in a moment: the service keeps trying to read it. Its "
                           "journal says what went wrong: journalctl -u feos-vmd",
                           "PCI device %s could not be read, so its state is unknown for now.",
                           shown);
}

static void take_first_gpu(const PciFunction *function, bool *found, PciAddress *ret) {
        if (!pci_function_is_gpu(function) || function->virtual_function ||
            (*found && pci_address_compare(*ret, function->address) < 0))
                return;
        *found = true;
        *ret = function->address;
}

bool device_facts_find_gpu(const DeviceFacts *facts, PciAddress *ret) {
        bool found = false;

        take_first_gpu(&facts->function, &found, ret);
        for (guint i = 0; i < facts->companions->len; i++)
                take_first_gpu(&g_array_index(facts->companions, PciFunction, i), &found, ret);
        return found;
}

bool check_identity(const CheckCard *card, GPtrArray *findings) {
        const PciFunction *function;
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(card->address, shown);

        if (card->unread) {
                g_ptr_array_add(findings, unread_refusal(card->address));
                return false;
        }
        if (!card->facts) {
                findings_error(findings, REFUSAL_NO_SUCH_GPU, shown,
                               "ListGPUs shows the GPUs there are.",
                               "There is no PCI device %s on this host.", shown);
                return false;
        }
        function = &card->facts->function;
        if (function->virtual_function || function->enabled_vfs > 0) {
                findings_error(findings, REFUSAL_VIRTUAL_FUNCTION, shown,
                               function->virtual_function
                                       ? "Ask for a whole GPU; ListGPUs shows them."
                                       : "Write 0 to its sriov_numvfs first; only whole GPUs are "
                                         "handed over.",
                               function->virtual_function
                                       ? "PCI device %s is an SR-IOV virtual function."
                                       : "GPU %s has SR-IOV virtual functions enabled.",
                               shown);
                return false;
        }
        if (!pci_function_is_gpu(function)) {
                findings_error(findings, REFUSAL_NOT_A_GPU, shown,
                               "ListGPUs shows the GPUs there are.",
                               "PCI device %s is no display controller (its class is %06x).", shown,
                               function->class);
                return false;
        }
        if (!device_facts_lead_card(card->facts)) {
                findings_error(
                        findings, REFUSAL_NOT_A_GPU, shown,
                        "Ask for the first display function of its slot: the rest of the card "
                        "goes with it.",
                        "PCI device %s is a further function of another GPU's card.", shown);
                return false;
        }
        return true;
}

static void check_claims(const CheckCard *card, const char *shown, GPtrArray *findings) {
        GpuView after;

        switch (gpu_step(&card->view, GPU_ASK_RESERVE, &after)) {
        case GPU_REFUSED_IN_USE:
                findings_error(findings, REFUSAL_GPU_IN_USE, shown,
                               "Shut that machine down first, or ask for another GPU.",
                               "GPU %s belongs to machine %s.", shown, card->taken_by);
                break;
        case GPU_REFUSED_FAULTED:
                findings_error(findings, REFUSAL_GPU_FAULTED, shown,
                               gpu_fault_help(card->view.fault), "GPU %s is faulted (%s): %s",
                               shown, gpu_fault_to_string(card->view.fault), card->fault_message);
                break;
        case GPU_REFUSED_PENDING:
                if (card->taken_by[0])
                        findings_error(findings, REFUSAL_GPU_IN_USE, shown,
                                       "Wait until that machine has ended, or ask for another GPU.",
                                       "GPU %s is reserved for machine %s.", shown, card->taken_by);
                else
                        findings_error(findings, REFUSAL_INVALID_STATE, shown,
                                       "Try again when its Pending property is empty.",
                                       "GPU %s is on its way (%s).", shown,
                                       gpu_pending_to_string(card->view.pending));
                break;
        default:
                /* libvirt would hand what is at the address to neither or to both. */
                if (card->named_by[0])
                        findings_error(findings, REFUSAL_GPU_IN_USE, shown,
                                       "Shut that machine down first, or take the device out of it "
                                       "with virsh detach-device.",
                                       "GPU %s is not in machine %s, but libvirt still has that "
                                       "address down as that machine's.",
                                       shown, card->named_by);
                if (card->unasked) {
                        findings_error(findings, REFUSAL_INVALID_STATE, shown, "Try again.",
                                       "GPU %s was not at rest when the host was asked who has it "
                                       "open.",
                                       shown);
                        findings_note_passing(findings);
                }
                break;
        }
        if (card->neighbour_taken_by[0])
                findings_error(
                        findings, REFUSAL_GPU_IN_USE, shown,
                        "Devices of one IOMMU group can only be in one machine: shut that one "
                        "down first.",
                        "GPU %s shares IOMMU group %d with a device of machine %s.", shown,
                        card->facts->iommu_group, card->neighbour_taken_by);
}

/* vfio-pci takes the firmware's framebuffer away as a host's own driver would (since Linux 6.0:
 * drivers/vfio/pci/vfio_pci_core.c calls aperture_remove_conflicting_pci_devices()), and older
 * kernels leave it, so that it draws into memory which is the guest's. */
static void check_boot_display(const DeviceFacts *device, const char *shown, GPtrArray *findings) {
        if (device->boot_framebuffer[0])
                findings_error(
                        findings, REFUSAL_BOOT_DISPLAY, shown,
                        "Ask for another GPU, or set the option allow-boot-display to lose the "
                        "console, or boot the host with initcall_blacklist=sysfb_init so that it "
                        "never has one there.",
                        "GPU %s shows the host's console: the framebuffer %s lies in its memory.",
                        shown, device->boot_framebuffer);
        else
                findings_error(findings, REFUSAL_BOOT_DISPLAY, shown,
                               "Ask for another GPU, or set the option allow-boot-display to lose "
                               "the console.",
                               "GPU %s shows the host's console: the firmware has made it the "
                               "primary display.",
                               shown);
}

/* What may go wrong with the device itself, and need not. */
static void check_condition(const DeviceFacts *device, const char *shown, GPtrArray *findings) {
        if (device->no_reset)
                findings_warning(findings, REFUSAL_NO_RESET, shown,
                                 "Try a second start before you rely on it: some cards work again "
                                 "only after a reboot of the host.",
                                 "The kernel knows no way to reset GPU %s between two machines.",
                                 shown);
        if (device->power == POWER_OFF)
                findings_warning(findings, REFUSAL_POWERED_DOWN, shown,
                                 "See that the card is powered and switched on; one that does not "
                                 "answer is refused when its turn comes, and nothing is lost.",
                                 "GPU %s has no power (D3cold).", shown);
        else if (device->power == POWER_ASLEEP)
                findings_warning(findings, REFUSAL_POWERED_DOWN, shown,
                                 "It is woken on its way. To see beforehand whether it wakes: echo "
                                 "on > its power/control in sysfs.",
                                 "GPU %s sleeps without power (D3cold).", shown);
}

/* Whether the card can be moved to vfio-pci and given away. */
static void check_card(const CheckFacts *facts, const CheckCard *card, bool allow_boot_display,
                       GPtrArray *findings) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(card->address, shown);
        if (!check_identity(card, findings))
                return;
        check_claims(card, shown, findings);
        check_group(facts, card, findings);
        if (card->facts->boot_display && !allow_boot_display)
                check_boot_display(card->facts, shown, findings);
        check_condition(card->facts, shown, findings);
}

void check_hypervisor(const CheckFacts *facts, const char *subject, GPtrArray *findings) {
        if (facts->hypervisor.silent && !facts->domains_known)
                findings_error(findings, REFUSAL_HYPERVISOR_UNAVAILABLE, subject,
                               "See what holds it up: systemctl status libvirtd (or virtqemud). A "
                               "restart of libvirt does not stop machines.",
                               facts->hypervisor.connected
                                       ? "libvirt at %s has not listed its domains within 30 s."
                                       : "libvirt at %s has not answered within 30 s.",
                               facts->hypervisor.uri);
        else if (!facts->hypervisor.connected)
                findings_error(findings, REFUSAL_HYPERVISOR_UNAVAILABLE, subject,
                               "Start libvirt: systemctl start libvirtd (or virtqemud).",
                               "libvirt cannot be reached at %s.", facts->hypervisor.uri);
        else if (!facts->domains_known)
                findings_error(
                        findings, REFUSAL_HYPERVISOR_UNAVAILABLE, subject, "Try again in a moment.",
                        "libvirt at %s has not listed its domains yet.", facts->hypervisor.uri);
        if (facts->hypervisor.elsewhere && facts->cards && facts->cards->len > 0)
                findings_error(findings, REFUSAL_HYPERVISOR_UNAVAILABLE, subject,
                               "Set URI=qemu:///system in [Hypervisor] of vmd.conf, and restart "
                               "the service.",
                               "libvirt at %s is not known to be this host's, so its machines "
                               "cannot have this host's GPUs.",
                               facts->hypervisor.uri);
}

static void check_cpus(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        const char *option = request->max_vcpus > request->vcpus ? "max-vcpus" : "vcpus";
        g_autofree char *has = g_strdup_printf(
                "The host has %u CPUs; %s.", facts->host.cpus,
                facts->definition ? "give it fewer with virsh setvcpus --config, --maximum first"
                                  : "ask for less");

        /* What nobody asked for is not refused: a host with one CPU runs the default of two. */
        if (request->max_vcpus > MAX(facts->host.cpus, REQUEST_DEFAULT_VCPUS))
                findings_error(findings, REFUSAL_INVALID_OPTION, option, has,
                               "Machine %s is to have up to %u CPUs (%s), more than the host has.",
                               request->name, request->max_vcpus, option);
}

/* Of a machine that is not to run yet nobody knows who will have it then. */
static void tell_tap(const DeviceRequest *nic, bool now, GPtrArray *findings) {
        if (now)
                findings_error(findings, REFUSAL_INVALID_OPTION, nic->source,
                               "Close what has it open, or make another one: ip tuntap add dev "
                               "NAME mode tap",
                               "Tap device %s is in use.", nic->source);
        else
                findings_warning(findings, REFUSAL_INVALID_OPTION, nic->source,
                                 "Nothing to do yet; Start refuses if it is still so.",
                                 "Tap device %s is in use.", nic->source);
}

static void check_tap(const DeviceRequest *nic, NetdevKind netdev, bool now, GPtrArray *findings) {
        switch (netdev) {
        case NETDEV_TAP:
                break;
        case NETDEV_TAP_TAKEN:
                tell_tap(nic, now, findings);
                break;
        case NETDEV_TAP_QUEUES:
                findings_error(findings, REFUSAL_INVALID_OPTION, nic->source,
                               "Make it without multi_queue: ip tuntap add dev NAME mode tap",
                               "Tap device %s has several queues, but libvirt opens it with one.",
                               nic->source);
                break;
        default:
                findings_error(findings, REFUSAL_INVALID_OPTION, nic->source,
                               "Make it first: ip tuntap add dev NAME mode tap",
                               "The host has no tap device %s.", nic->source);
                break;
        }
}

static void check_nic(const CheckFacts *facts, const DeviceRequest *nic, NetdevKind netdev,
                      bool now, GPtrArray *findings) {
        if (nic->type != NIC_NETWORK && netdev == NETDEV_UNKNOWN) {
                g_ptr_array_add(findings, host_unread_refusal(nic->source));
                return;
        }
        switch (nic->type) {
        case NIC_NETWORK:
                if (facts->hypervisor.connected && !facts->hypervisor.networks_unknown &&
                    !g_strv_contains(facts->hypervisor.networks, nic->source))
                        findings_error(findings, REFUSAL_INVALID_OPTION, nic->source,
                                       "virsh net-list --all shows those there are; start one with "
                                       "virsh net-start.",
                                       "There is no active libvirt network %s.", nic->source);
                break;
        case NIC_BRIDGE:
                if (netdev != NETDEV_BRIDGE)
                        findings_error(findings, REFUSAL_INVALID_OPTION, nic->source,
                                       "ip link show type bridge shows those there are.",
                                       "The host has no bridge %s.", nic->source);
                break;
        case NIC_TAP:
                check_tap(nic, netdev, now, findings);
                break;
        }
}

static void check_nics(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        for (guint i = 0; i < request->nics->len; i++)
                check_nic(facts, g_ptr_array_index(request->nics, i),
                          g_array_index(facts->nics, NetdevKind, i), request->start, findings);
}

void check_survey(const CheckFacts *facts, GPtrArray *findings) {
        /* What is not known stands in the way as if it were so. */
        RefusalCode unknown = facts->cards->len > 0 ? REFUSAL_GPU_BUSY : REFUSAL_IMAGE_NOT_FOUND;

        if (!facts->survey)
                return;
        if (facts->survey->error == -ETIMEDOUT)
                findings_error(
                        findings, unknown, "host",
                        "See whether the image directories' file systems answer, and whether "
                        "processes hang.",
                        "The host did not answer in time which processes hold the GPUs, or "
                        "about the images.");
        else if (facts->survey->error < 0)
                findings_error(
                        findings, unknown, "host",
                        "The service's journal says more: journalctl -u feos-vmd",
                        "The host could not be asked which processes hold the GPUs, or about "
                        "the images.");
        if (facts->survey->error < 0)
                findings_note_passing(findings);
        check_holders(facts->survey->holders, findings);
}

/* A machine that is only defined takes no GPU: who has one now is worth a word, and need not have
 * it when the machine starts. What could not be found out stays what it is. */
static void soften_claims(const CheckFacts *facts, GPtrArray *findings) {
        bool surveyed = !facts->survey || facts->survey->error == 0;

        for (guint i = 0; i < findings->len; i++) {
                Refusal *finding = g_ptr_array_index(findings, i);

                if (finding->code == REFUSAL_GPU_IN_USE || finding->code == REFUSAL_GPU_FAULTED ||
                    finding->code == REFUSAL_INVALID_STATE ||
                    (finding->code == REFUSAL_GPU_BUSY && surveyed))
                        finding->severity = SEVERITY_WARNING;
        }
}

static void check_cards(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        for (guint i = 0; i < facts->cards->len; i++) {
                const CheckCard *card = &g_array_index(facts->cards, CheckCard, i);

                if (check_made_with(facts, card, request, findings))
                        check_card(facts, card, request->allow_boot_display, findings);
        }
}

static void check_name(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        if (facts->name_taken)
                findings_error(findings, REFUSAL_MACHINE_EXISTS, request->name,
                               "Choose another name, or delete that machine first.",
                               "There is a machine or libvirt domain %s already.", request->name);
        if (facts->uuid_taken)
                findings_error(findings, REFUSAL_MACHINE_EXISTS, request->uuid,
                               "Choose another UUID, or leave it out.",
                               "There is a machine or libvirt domain with UUID %s already.",
                               request->uuid);
}

static void check_platform(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        if (!facts->hypervisor.connected)
                return;
        if (request->firmware == FIRMWARE_UEFI && !facts->hypervisor.uefi)
                findings_error(findings, REFUSAL_INVALID_OPTION, "firmware",
                               facts->definition
                                       ? "Install UEFI firmware (package ovmf)."
                                       : "Install UEFI firmware (package ovmf), or use \"bios\".",
                               "The host has no UEFI firmware for machines.");
        if (!facts->hypervisor.kvm && !(facts->definition && facts->definition->kvm))
                findings_warning(
                        findings, REFUSAL_NO_KVM, request->name,
                        "Switch virtualisation (VT-x or AMD-V) on in the firmware and load "
                        "kvm_intel or kvm_amd.",
                        "The host has no KVM: machine %s runs in plain emulation, which is "
                        "slow.",
                        request->name);
}

void check_request(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        check_cpus(facts, request, findings);
        check_memory(facts,
                     &(MachineMemory){
                             .machine = request->name,
                             .mib = request->memory_mib,
                             .huge = request->hugepages != HUGEPAGES_NONE,
                             .now = request->start,
                             .pinned = facts->cards->len > 0,
                     },
                     findings);
        check_cards(facts, request, findings);
        if (facts->definition)
                check_definition(facts, request, findings);
        check_hypervisor(facts, request->name, findings);
        check_name(facts, request, findings);
        check_survey(facts, findings);
        if (!request->start)
                soften_claims(facts, findings);
        check_hugepages(facts, request, findings);
        check_files(facts, request, findings);
        check_nics(facts, request, findings);
        check_platform(facts, request, findings);
}

void check_attach(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        const DeviceRequest *device =
                g_ptr_array_index(request->disks->len > 0 ? request->disks : request->nics, 0);

        check_hypervisor(facts, request->name, findings);
        if (facts->id_taken)
                findings_error(findings, REFUSAL_INVALID_OPTION, device->id,
                               "Choose another id, or leave it out.",
                               "Machine %s has a %s %s already.", request->name,
                               device_kind_to_string(device->kind), device->id);
        check_survey(facts, findings);
        check_files(facts, request, findings);
        check_nics(facts, request, findings);
}

void check_bind(const CheckFacts *facts, GPtrArray *findings) {
        for (guint i = 0; i < facts->cards->len; i++)
                check_card(facts, &g_array_index(facts->cards, CheckCard, i), false, findings);
        check_survey(facts, findings);
}
