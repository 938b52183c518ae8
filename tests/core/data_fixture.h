/* tests/core/data_fixture.h: a folder for one upload and the compact files it is converted to. */
#ifndef TESTS_CORE_DATA_FIXTURE_H
#define TESTS_CORE_DATA_FIXTURE_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/data.h"
#include "tests/suite.h"

static char dir[] = "/tmp/espalier-data-XXXXXX";
static char upload[64], x_path[64], y_path[64];

static void make_dir(void)
{
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(upload, sizeof upload, "%s/upload", dir);
    snprintf(x_path, sizeof x_path, "%s/x", dir);
    snprintf(y_path, sizeof y_path, "%s/y", dir);
}

static int files_in_dir(void)
{
    DIR *d = opendir(dir);
    int n = -2; /* . and .. */

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void remove_dir(void)
{
    unlink(upload);
    unlink(x_path);
    unlink(y_path);
    ck_assert_int_eq(rmdir(dir), 0);
}

#endif
