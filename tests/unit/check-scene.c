#include "check-scene.h"

#include "testing.h"

#include <string.h>

static const char *const no_networks[] = { NULL };

void add_function(GArray *array, const char *address, uint32_t class, const char *driver) {
        PciFunction function = { .class = class };

        assert_true(pci_address_parse(address, &function.address));
        g_strlcpy(function.driver, driver, sizeof(function.driver));
        g_array_append_val(array, function);
}

Scene *scene_new(void) {
        const char *gpus[] = { "01:00.0", NULL };
        Scene *scene = g_new0(Scene, 1);
        CheckCard card;

        scene->findings = findings_new();
        scene->request = request_new("box", gpus, scene->findings);
        request_finish(scene->request, scene->findings);
        scene->gpu = device_facts_new();
        scene->gpu->function.class = 0x030000;
        assert_true(pci_address_parse("01:00.0", &scene->gpu->function.address));
        scene->gpu->iommu_group = 7;
        add_function(scene->gpu->companions, "01:00.1", 0x040300, "snd_hda_intel");
        scene->survey = g_new0(SurveyAnswer, 1);
        scene->survey->holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        scene->survey->images = g_ptr_array_new_with_free_func((GDestroyNotify)image_answer_free);
        scene->facts = (CheckFacts){
                .host = { .iommu = true, .vfio = true, .cpus = 8, .memory_mib = 16384 },
                .hypervisor = { .tried = true,
                                .connected = true,
                                .uri = "qemu:///system",
                                .version = "9.0.0",
                                .kvm = true,
                                .networks = no_networks },
                .domains_known = true,
                .cards = g_array_new(FALSE, TRUE, sizeof(CheckCard)),
                .survey = scene->survey,
        };
        card = (CheckCard){
                .address = scene->gpu->function.address,
                .facts = scene->gpu,
                .fault_message = "",
                .taken_by = "",
                .named_by = "",
                .neighbour_taken_by = "",
        };
        g_array_append_val(scene->facts.cards, card);
        scene->made_with = g_array_new(FALSE, TRUE, sizeof(CardIdentity));
        scene->definition.cards = scene->made_with;
        scene->definition.hostdevs = g_array_new(FALSE, TRUE, sizeof(CheckHostdev));
        return scene;
}

CheckHostdev *scene_add_hostdev(Scene *scene, const char *address, const DeviceFacts *facts) {
        GArray *hostdevs = scene->definition.hostdevs;
        CheckHostdev hostdev = { .facts = facts };

        assert_true(pci_address_parse(address, &hostdev.address));
        g_array_append_val(hostdevs, hostdev);
        return &g_array_index(hostdevs, CheckHostdev, hostdevs->len - 1);
}

void scene_define(Scene *scene) {
        scene->facts.definition = &scene->definition;
        scene_add_hostdev(scene, "01:00.0", scene->gpu);
        scene_add_hostdev(scene, "01:00.1", scene->gpu);
}

CheckCard *scene_card(Scene *scene) {
        return &g_array_index(scene->facts.cards, CheckCard, 0);
}

void scene_free(Scene *scene) {
        g_array_unref(scene->facts.cards);
        g_array_unref(scene->made_with);
        g_array_unref(scene->definition.hostdevs);
        if (scene->facts.files)
                g_array_unref(scene->facts.files);
        request_free(scene->request);
        device_facts_free(scene->gpu);
        survey_answer_free(scene->survey);
        g_ptr_array_unref(scene->findings);
        g_free(scene);
}

void expect_finding(Scene *scene, RefusalSeverity severity, RefusalCode code, const char *subject,
                    const char *says, const char *remedy) {
        const Refusal *finding;

        check_request(&scene->facts, scene->request, scene->findings);
        for (guint i = 1; i < scene->findings->len; i++)
                print_message("%s\n", ((Refusal *)g_ptr_array_index(scene->findings, i))->message);
        assert_int_equal(scene->findings->len, 1);
        finding = g_ptr_array_index(scene->findings, 0);
        assert_int_equal(finding->severity, severity);
        assert_string_equal(refusal_code_to_string(finding->code), refusal_code_to_string(code));
        assert_string_equal(finding->subject, subject);
        if (!strstr(finding->message, says))
                fail_msg("\"%s\" does not say \"%s\"", finding->message, says);
        if (!strstr(finding->remedy, remedy))
                fail_msg("\"%s\" does not say \"%s\"", finding->remedy, remedy);
        assert_true(strlen(finding->remedy) > 5);
        scene_free(scene);
}

void expect_remedy(Scene *scene, RefusalCode code, const char *subject, const char *says,
                   const char *remedy) {
        expect_finding(scene, SEVERITY_ERROR, code, subject, says, remedy);
}

void expect(Scene *scene, RefusalCode code, const char *subject, const char *says) {
        expect_finding(scene, SEVERITY_ERROR, code, subject, says, "");
}

void expect_warning(Scene *scene, RefusalCode code, const char *subject, const char *says) {
        expect_finding(scene, SEVERITY_WARNING, code, subject, says, "");
}

void expect_nothing(Scene *scene) {
        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene_free(scene);
}
