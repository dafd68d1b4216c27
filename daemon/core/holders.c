/* Asks the host who holds a card, for ListHolders and for Release. What holders mean to a machine
 * that wants the card is in check-holders.c. */
#include "core/manager-private.h"

typedef struct HoldersCall {
        Manager *manager; /* weak */
        ManagerHolders done;
        void *userdata;
} HoldersCall;

static void holders_surveyed(void *userdata, SurveyAnswer *answer) {
        HoldersCall *call = userdata;
        TURN(call->manager);
        g_autoptr(SurveyAnswer) owned G_GNUC_UNUSED = answer;
        g_autoptr(Refusal) refusal = NULL;

        if (answer->error < 0)
                refusal = refusal_new(REFUSAL_GPU_BUSY, "host",
                                      "The service's journal says more: journalctl -u feos-vmd",
                                      "The host could not be asked which processes hold the GPU.");
        call->done(call->userdata, answer->holders, refusal);
        g_ptr_array_remove_fast(call->manager->lists, call);
}

void manager_list_holders(Manager *manager, PciAddress address, ManagerHolders done,
                          void *userdata) {
        g_autoptr(GArray) cards = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        SurveyQuestion question = { .cards = cards };
        HoldersCall *call;

        if (!manager_find_gpu(manager, address)) {
                g_autoptr(Refusal) refusal = no_such_gpu(address);
                g_autoptr(GPtrArray) nobody = g_ptr_array_new();

                done(userdata, nobody, refusal);
                return;
        }
        call = g_new(HoldersCall, 1);
        *call = (HoldersCall){ .manager = manager, .done = done, .userdata = userdata };
        g_ptr_array_add(manager->lists, call);
        g_array_append_val(cards, address);
        manager->host.ops->survey(manager->host.self, &question, holders_surveyed, call);
}

Refusal *vfio_user_refusal(const GPtrArray *holders) {
        g_autoptr(GPtrArray) users = g_ptr_array_new();
        g_autoptr(GPtrArray) findings = findings_new();
        const Refusal *error;

        for (guint i = 0; i < holders->len; i++) {
                Holder *holder = g_ptr_array_index(holders, i);

                if (g_str_has_prefix(holder->node, "/dev/vfio/"))
                        g_ptr_array_add(users, holder);
        }
        check_holders(users, findings);
        error = findings_first_error(findings);
        return error ? refusal_copy(error) : NULL;
}
