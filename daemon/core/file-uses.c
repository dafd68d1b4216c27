/* Which files are whose: what domains, ours or not, have as disks, what launches have been given
 * that no domain has yet, and what is being attached. */
#include "core/manager-private.h"

#include <errno.h>

static void claim_free(FileClaim *claim) {
        g_free(claim->path);
        g_clear_pointer(&claim->identities, g_array_unref);
        g_free(claim);
}

GPtrArray *claims_new(const Request *request, bool defined, const SurveyAnswer *survey) {
        GPtrArray *claims = g_ptr_array_new_with_free_func((GDestroyNotify)claim_free);
        g_autoptr(GArray) images = request_images(request);

        for (guint i = 0; survey && i < images->len; i++) {
                const RequestImage *image = &g_array_index(images, RequestImage, i);
                const ImageAnswer *answer = g_ptr_array_index(survey->images, i);
                FileClaim *claim;

                if (!image->disk)
                        continue;
                claim = g_new0(FileClaim, 1);
                claim->path = g_strdup(defined ? image->path : answer->name);
                claim->writes = image->writes;
                if (answer->identities)
                        claim->identities = g_array_ref(answer->identities);
                g_ptr_array_add(claims, claim);
        }
        return claims;
}

void claims_add_uses(const GPtrArray *claims, const char *machine, bool now, GArray *uses) {
        for (guint i = 0; i < claims->len; i++) {
                const FileClaim *claim = g_ptr_array_index(claims, i);
                FileUse use = {
                        .path = claim->path,
                        .machine = machine,
                        .writes = claim->writes,
                        .now = now,
                        .found = 1,
                        .identities = claim->identities,
                };

                g_array_append_val(uses, use);
        }
}

static guint domain_count_live(const Domain *domain, const char *path) {
        guint count = 0;

        for (guint i = 0; i < domain->facts->files->len; i++) {
                const DomainFile *file = g_ptr_array_index(domain->facts->files, i);

                if (file->live && g_strcmp0(file->path, path) == 0)
                        count++;
        }
        return count;
}

static guint domain_count_claims(const Domain *domain, const char *path) {
        guint count = 0;

        for (guint i = 0; i < domain->claims->len; i++) {
                const FileClaim *claim = g_ptr_array_index(domain->claims, i);

                if (g_strcmp0(claim->path, path) == 0)
                        count++;
        }
        return count;
}

void domain_claim(Domain *domain, GPtrArray *claims) {
        g_clear_pointer(&domain->claims, g_ptr_array_unref);
        if (claims)
                domain_claim_more(domain, claims);
}

void domain_claim_more(Domain *domain, GPtrArray *claims) {
        guint before = domain->claims ? domain->claims->len : 0;

        if (domain->claims)
                g_ptr_array_extend_and_steal(domain->claims, claims);
        else
                domain->claims = claims;
        /* The last look may have shown it already. */
        for (guint i = before; i < domain->claims->len; i++) {
                FileClaim *claim = g_ptr_array_index(domain->claims, i);

                claim->reviewed = domain_count_live(domain, claim->path) >=
                                  domain_count_claims(domain, claim->path);
        }
}

/* Of the claims of one name those are true that came last, as many as the domain has disks of it.
 * The first look after a claim may have begun before it, and neither ends it nor another one. */
void domain_review_claims(Domain *domain) {
        for (guint i = domain->claims ? domain->claims->len : 0; i-- > 0;) {
                FileClaim *claim = g_ptr_array_index(domain->claims, i);
                guint live = domain_count_live(domain, claim->path);

                for (guint k = i + 1; live > 0 && k < domain->claims->len; k++) {
                        const FileClaim *later = g_ptr_array_index(domain->claims, k);

                        if (later->reviewed && g_strcmp0(later->path, claim->path) == 0)
                                live--;
                }
                if (live == 0 && claim->reviewed)
                        g_ptr_array_remove_index(domain->claims, i);
        }
        for (guint i = 0; domain->claims && i < domain->claims->len; i++)
                ((FileClaim *)g_ptr_array_index(domain->claims, i))->reviewed = true;
}

/* How many disks of the same name the domain has before this one. */
static guint domain_count_before(const Domain *domain, const DomainFile *file) {
        guint count = 0;

        for (guint i = 0; i < domain->facts->files->len; i++) {
                const DomainFile *other = g_ptr_array_index(domain->facts->files, i);

                if (other == file)
                        break;
                if (other->live && g_strcmp0(other->path, file->path) == 0)
                        count++;
        }
        return count;
}

/* What the file led to when the running domain got it. The name may lead elsewhere by now, if the
 * file was moved or the volume renamed; what QEMU has open stays the same. Two disks of one name
 * have a claim each, the last one first. */
static const GArray *domain_claimed(const Domain *domain, const DomainFile *file) {
        guint before = domain_count_before(domain, file);

        for (guint i = domain->claims && file->live ? domain->claims->len : 0; i-- > 0;) {
                const FileClaim *claim = g_ptr_array_index(domain->claims, i);

                if (g_strcmp0(claim->path, file->path) == 0 && claim->identities &&
                    claim->identities->len > 0 && before-- == 0)
                        return claim->identities;
        }
        return NULL;
}

/* Whether the file has to be looked at. A domain that is only defined leads to no more than a
 * warning, which only a check reports. */
static bool file_matters(const Intake *intake, const Domain *domain, const DomainFile *file,
                         bool *ret_now) {
        bool own = g_str_equal(domain->facts->uuid, intake->uuid);

        /* A launch's own claims say what is under way with its domain. */
        if ((own && intake->kind != INTAKE_ATTACH) ||
            manager_launches(intake->manager, domain->facts->uuid))
                return false;
        *ret_now = own || (domain_may_live(domain) && (file->live || !domain->facts->active));
        return *ret_now || intake->checked;
}

typedef void (*FileVisitor)(const Domain *domain, const DomainFile *file, bool now, void *userdata);

/* Files of running machines come first, so that they are looked at even if time runs out. */
static void intake_visit_files(const Intake *intake, FileVisitor visit, void *userdata) {
        for (unsigned pass = 0; pass < 2; pass++) {
                GHashTableIter iter;
                Domain *domain;

                g_hash_table_iter_init(&iter, intake->manager->domains);
                while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                        for (guint i = 0; i < domain->facts->files->len; i++) {
                                const DomainFile *file = g_ptr_array_index(domain->facts->files, i);
                                bool now;

                                if (file_matters(intake, domain, file, &now) && now == (pass == 0))
                                        visit(domain, file, now, userdata);
                        }
        }
}

/* The index of @file among those that the host was asked about, -1 = not among them. */
static int files_find(const GPtrArray *files, const DomainFile *file) {
        for (guint i = 0; i < files->len; i++) {
                const DomainFile *other = g_ptr_array_index(files, i);

                if (g_str_equal(other->path, file->path) && other->qcow2 == file->qcow2)
                        return (int)i;
        }
        return -1;
}

static void add_file(const Domain *domain, const DomainFile *file, bool now, void *userdata) {
        GPtrArray *files = userdata;

        if (file->path && !domain_claimed(domain, file) && files_find(files, file) < 0)
                g_ptr_array_add(files, domain_file_copy(file));
}

GPtrArray *intake_files(const Intake *intake) {
        GPtrArray *files = g_ptr_array_new_with_free_func((GDestroyNotify)domain_file_free);

        intake_visit_files(intake, add_file, files);
        return files;
}

typedef struct Uses {
        const Intake *intake;
        GArray *uses;
} Uses;

static const FileAnswer *intake_find_answer(const Intake *intake, const DomainFile *file) {
        const GPtrArray *answers = intake->survey ? intake->survey->files : NULL;
        int i = file->path ? files_find(intake->files, file) : -1;

        return answers && i >= 0 && (guint)i < answers->len ? g_ptr_array_index(answers, i) : NULL;
}

static void add_use(const Domain *domain, const DomainFile *file, bool now, void *userdata) {
        const Uses *uses = userdata;
        const GArray *claimed = domain_claimed(domain, file);
        const FileAnswer *answer = claimed ? NULL : intake_find_answer(uses->intake, file);
        FileUse use = {
                .path = file->path ?: file->volume,
                .machine = domain->facts->name,
                .writes = file->writes,
                .own = g_str_equal(domain->facts->uuid, uses->intake->uuid),
                .now = now,
                .found = claimed  ? 1
                         : answer ? answer->found
                                  : -ENODATA,
                .identities = claimed  ? claimed
                              : answer ? answer->identities
                                       : NULL,
        };

        g_array_append_val(uses->uses, use);
}

GArray *intake_file_uses(const Intake *intake) {
        const Manager *manager = intake->manager;
        GArray *uses = g_array_new(FALSE, TRUE, sizeof(FileUse));

        intake_visit_files(intake, add_use, &(Uses){ intake, uses });
        for (guint i = 0; i < manager->launches->len; i++) {
                const Launch *launch = g_ptr_array_index(manager->launches, i);

                claims_add_uses(launch->claims, launch->name, launch->kind != LAUNCH_CREATE_ONLY,
                                uses);
        }
        manager_add_attaching(intake->manager, uses);
        return uses;
}

typedef struct Asked {
        const GPtrArray *files;
        bool all;
} Asked;

static void see_whether_asked(const Domain *domain, const DomainFile *file, bool now,
                              void *userdata) {
        Asked *asked = userdata;

        if (file->path && !domain_claimed(domain, file) && files_find(asked->files, file) < 0)
                asked->all = false;
}

bool intake_has_asked_files(const Intake *intake) {
        Asked asked = { intake->files, true };

        intake_visit_files(intake, see_whether_asked, &asked);
        return asked.all;
}
