/* What somebody meant who wrote a word that there is not. */
#pragma once

/* The one of @words (NULL-terminated) that is nearest to @word, or NULL when none is near. Two
 * letters in the wrong order are one mistake. */
const char *nearest_word(const char *word, const char *const *words);
