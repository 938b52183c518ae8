/* tests/suite.h: the frame of a test program: one libcheck suite of some cases.
 *
 *     static void cases(Suite *s) { TCase *tc = suite_case(s, "laws"); tcase_add_test(tc, some_law); }
 *     SUITE_MAIN("prune", cases)
 */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>
#include <stdlib.h>

static inline TCase *suite_case(Suite *s, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_set_timeout(tc, 1200);
    suite_add_tcase(s, tc);
    return tc;
}

#define SUITE_MAIN(name, add_cases) \
    int main(void) \
    { \
        Suite *suite = suite_create(name); \
        SRunner *runner = srunner_create(suite); \
        int failed; \
        add_cases(suite); \
        srunner_run_all(runner, CK_NORMAL); \
        failed = srunner_ntests_failed(runner); \
        srunner_free(runner); \
        return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE; \
    }

#endif
