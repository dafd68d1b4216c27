/* Asks about each file in a thread of its own, up to a number. */
#include "survey-files.h"

#include "survey-identity.h"

#define THREADS_MAX 64

struct Files {
        GArray *questions;
        GThreadPool *pool;
        GMutex lock; /* of what follows */
        GCond changed;
        guint left;         /* how many are not known yet */
        GPtrArray *answers; /* FileAnswer, NULL = not known yet; NULL when they were given away */
};

/* @data is the file's place, counted from 1, since NULL cannot be pushed. */
static void on_file(void *data, void *userdata) {
        Files *files = userdata;
        guint index = GPOINTER_TO_UINT(data) - 1;
        const FileQuestion *question = &g_array_index(files->questions, FileQuestion, index);
        FileAnswer *answer = file_survey(question->path, question->qcow2);

        g_mutex_lock(&files->lock);
        if (files->answers)
                files->answers->pdata[index] = g_steal_pointer(&answer);
        files->left--;
        g_cond_signal(&files->changed);
        g_mutex_unlock(&files->lock);
        file_answer_free(answer);
}

Files *files_begin(GArray *questions) {
        Files *files = g_new0(Files, 1);

        files->questions = questions;
        files->left = questions->len;
        files->answers = g_ptr_array_new_with_free_func((GDestroyNotify)file_answer_free);
        g_ptr_array_set_size(files->answers, (int)questions->len);
        g_mutex_init(&files->lock);
        g_cond_init(&files->changed);
        files->pool = g_thread_pool_new(on_file, files, THREADS_MAX, FALSE, NULL);
        for (guint i = 0; i < questions->len; i++)
                (void)g_thread_pool_push(files->pool, GUINT_TO_POINTER(i + 1), NULL);
        return files;
}

GPtrArray *files_end(Files *files, gint64 usec) {
        gint64 deadline = g_get_monotonic_time() + usec;
        GPtrArray *answers;
        bool all;

        g_mutex_lock(&files->lock);
        while (files->left > 0 && g_cond_wait_until(&files->changed, &files->lock, deadline))
                ;
        all = files->left == 0;
        answers = g_steal_pointer(&files->answers);
        g_mutex_unlock(&files->lock);
        if (!all)
                return answers;

        g_thread_pool_free(files->pool, FALSE, TRUE);
        g_mutex_clear(&files->lock);
        g_cond_clear(&files->changed);
        g_array_unref(files->questions);
        g_free(files);
        return answers;
}
