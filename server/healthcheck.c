/* server/healthcheck.c: see healthcheck.h. */
#include "server/healthcheck.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/http.h"

static const char *reachable(const char *host)
{
    if (*host == '\0' || strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

/* The timeout holds for connect, too: Linux bounds it by SO_SNDTIMEO. */
static int dial(const struct addrinfo *list, int timeout_ms)
{
    const struct timeval t = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), saved;

        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0 &&
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) == 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            return fd;
        saved = errno;
        if (fd >= 0)
            close(fd);
        errno = saved;
    }
    return -1;
}

static enum err_code ask(int fd, struct err *e)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", want[] = "HTTP/1.1 200 ";
    char reply[64] = "";
    size_t got = 0;
    ssize_t n = send(fd, request, sizeof request - 1, MSG_NOSIGNAL);

    while (n > 0 && got < sizeof want - 1) {
        n = recv(fd, reply + got, sizeof reply - 1 - got, 0);
        got += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        return err_errno(e, errno, "no answer");
    reply[strcspn(reply, "\r\n")] = '\0';
    return strncmp(reply, want, sizeof want - 1) == 0 ? ERR_OK : err_set(e, ERR_INTERNAL, "the answer is \"%s\"", reply);
}

enum err_code healthcheck(const char *listen, int timeout_ms, struct err *e)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char host[256];
    const char *port = NULL;
    enum err_code rc = http_split_address(listen, host, sizeof host, &port, e);
    int number, fd;

    if (rc != ERR_OK)
        return rc;
    number = getaddrinfo(reachable(host), port, &hints, &list);
    if (number != 0)
        return err_set(e, ERR_INVALID, "%.100s: %s", listen, gai_strerror(number));
    fd = dial(list, timeout_ms);
    freeaddrinfo(list);
    if (fd < 0)
        return err_errno(e, errno, "cannot connect");
    rc = ask(fd, e);
    close(fd);
    return rc;
}
