/* An open load: attempts begin at a fixed rate, whether or not earlier ones were answered.
 *
 *   offered KIND HOST PORT RATE SECONDS PATIENCE NAME NUMBER
 *
 * RATE attempts begin in each second of SECONDS. An attempt that hears nothing repeats its request after 1 s and after 3 s,
 * and fails when it is not complete after PATIENCE seconds. KIND is what one attempt is:
 *
 *   dhcp     DISCOVER to ACK of a new client behind the relay NAME, an address of ours
 *   proxy    DISCOVER of a PXE client to OFFER, behind the same relay
 *   tftp     a file of one block, NAME
 *   missing  a file that is not there, NAME
 *   http     GET of the path NAME on a connection of its own
 *
 * NUMBER is that of the first client, for DHCP. By TFTP and HTTP the clients have the addresses 10.77.2.1 to 10.77.2.200. Prints one line of JSON; "late" counts the attempts that began more than
 * 0.1 s after their time: then the load was at its own limit, and not the server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DISCOVER = 1, REQUEST = 3, SENDINGS = 3, DESCRIPTORS = 262144 };

struct attempt {
    int fd, sent, state, over, connected, writing;
    double began, said;
    unsigned char address[4], server[4];
    long want, got; /* bytes of an HTTP response; want -1: its head is not complete */
    char head[512];
};

static const double waits[SENDINGS] = {1, 2, 1e9};
static struct sockaddr_in target;
static const char *kind, *name;
static struct attempt *all, **owners;
static double *latencies;
static long done, failed, repeats, late, first, wanted;
static int poller, relay = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int is(const char *what) { return !strcmp(kind, what); }
static int by_relay(void) { return is("dhcp") || is("proxy"); }

static void watch(int fd, int events, int change) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    epoll_ctl(poller, change ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);
}

static void over(struct attempt *a, int good) {
    if (a->over) return;
    a->over = 1;
    if (good) latencies[done++] = now() - a->began; else failed++;
    if (a->fd >= 0) { owners[a->fd] = 0; close(a->fd); a->fd = -1; }
}

static void say_dhcp(struct attempt *a) {
    static unsigned char m[400];
    unsigned number = htonl(first + (a - all));
    memset(m, 0, sizeof m);
    memcpy(m, "\1\1\6\1", 4);
    memcpy(m + 4, &number, 4);
    inet_pton(AF_INET, name, m + 24);
    m[28] = 2;
    memcpy(m + 30, &number, 4);
    memcpy(m + 236, "\x63\x82\x53\x63\x35\1", 6);
    m[242] = a->state;
    unsigned char *p = m + 243;
    if (a->state == REQUEST) {
        *p++ = 50; *p++ = 4; memcpy(p, a->address, 4); p += 4;
        *p++ = 54; *p++ = 4; memcpy(p, a->server, 4); p += 4;
    }
    if (is("proxy")) {
        memcpy(p, "\x39\2\5\xc0\x5d\2\0\0\x5e\3\1\2\1\x3c\x20PXEClient:Arch:00000:UNDI:002001", 47); p += 47;
        *p++ = 97; *p++ = 17; *p++ = 0; memcpy(p, &number, 4); p += 16;
        memcpy(p, "\x37\7\1\3\x2b\x3c\x42\x43\x61", 9); p += 9;
    } else { memcpy(p, "\x37\3\1\3\6", 5); p += 5; }
    *p = 255;
    sendto(relay, m, 380, 0, (struct sockaddr *)&target, sizeof target);
}

static void say(struct attempt *a) {
    a->said = now();
    if (a->sent++) repeats++;
    if (by_relay()) say_dhcp(a);
    else if (!is("http")) {
        char m[300];
        int n = 2 + sprintf(m + 2, "%s", name) + 1;
        m[0] = 0; m[1] = 1;
        n += sprintf(m + n, "octet") + 1;
        sendto(a->fd, m, n, 0, (struct sockaddr *)&target, sizeof target);
    }
}

static void begin(struct attempt *a, double due) {
    a->began = due;
    if (now() - due > 0.1) late++;
    a->state = DISCOVER;
    a->fd = -1;
    if (!by_relay()) {
        a->fd = socket(AF_INET, (is("http") ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
        if (a->fd < 0 || a->fd >= DESCRIPTORS) { if (a->fd >= 0) close(a->fd); a->fd = -1; over(a, 0); return; }
        owners[a->fd] = a;
        struct sockaddr_in own = {.sin_family = AF_INET};
        int on = 1;
        own.sin_addr.s_addr = htonl(0x0a4d0201 + (a - all) % 200);
        setsockopt(a->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        bind(a->fd, (struct sockaddr *)&own, sizeof own);
        if (is("http")) {
            struct linger reset = {1, 0};
            setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            a->want = -1;
            a->sent = SENDINGS; /* TCP repeats */
            watch(a->fd, EPOLLOUT, 0);
            if (connect(a->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) over(a, 0);
            return;
        }
        watch(a->fd, EPOLLIN, 0);
    }
    say(a);
}

static void take_dhcp(void) {
    unsigned char m[2000];
    ssize_t n;
    while ((n = recv(relay, m, sizeof m, MSG_DONTWAIT)) > 0) {
        unsigned number;
        if (n < 244 || m[0] != 2) continue;
        memcpy(&number, m + 4, 4);
        long at = (long)ntohl(number) - first;
        if (at < 0 || at >= wanted || all[at].over || !all[at].sent) continue;
        struct attempt *a = &all[at];
        int type = 0;
        const unsigned char *server = 0;
        for (unsigned char *p = m + 240; p + 1 < m + n && *p != 255; p += *p ? 2 + p[1] : 1) {
            if (*p == 53) type = p[2];
            if (*p == 54) server = p + 2;
        }
        if (is("proxy")) { if (type == 2) over(a, 1); continue; }
        if (type == 2 && a->state == DISCOVER && server) {
            memcpy(a->address, m + 16, 4);
            memcpy(a->server, server, 4);
            a->state = REQUEST;
            a->sent = 0;
            say(a);
        } else if (type == 5 && a->state == REQUEST) over(a, 1);
        else if (type == 6) over(a, 0);
    }
}

static void take(struct attempt *a, int events) {
    unsigned char m[65536];
    if (is("http")) {
        if (!a->writing) {
            char request[400];
            int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: boot\r\n\r\n", name);
            a->writing = 1;
            if (send(a->fd, request, length, MSG_NOSIGNAL) != length) { over(a, 0); return; }
            watch(a->fd, EPOLLIN, 1);
            return;
        }
        ssize_t n;
        while ((n = recv(a->fd, m, sizeof m - 1, 0)) > 0) {
            if (a->want < 0) {
                m[n] = 0;
                char *end = strstr((char *)m, "\r\n\r\n"), *length = strcasestr((char *)m, "content-length:");
                if (!end || !length || strncmp((char *)m + 9, "200", 3)) { over(a, 0); return; }
                a->want = end + 4 - (char *)m + atol(length + 15);
            }
            a->got += n;
            if (a->got >= a->want) { over(a, 1); return; }
        }
        if (!n || errno != EAGAIN) over(a, 0);
        return;
    }
    struct sockaddr_in from;
    socklen_t room = sizeof from;
    ssize_t n = recvfrom(a->fd, m, sizeof m, 0, (struct sockaddr *)&from, &room);
    if (n < 4) return;
    if (m[1] == 5) over(a, is("missing") && m[3] == 1);
    else if (m[1] == 3 && n < 516) {
        sendto(a->fd, "\0\4\0\1", 4, 0, (struct sockaddr *)&from, sizeof from);
        over(a, is("tftp"));
    }
}

static int by_value(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

int main(int argc, char **argv) {
    if (argc != 9) { fprintf(stderr, "usage: offered KIND HOST PORT RATE SECONDS PATIENCE NAME NUMBER\n"); return 2; }
    kind = argv[1];
    target.sin_family = AF_INET;
    target.sin_port = htons(atoi(argv[3]));
    if (inet_pton(AF_INET, argv[2], &target.sin_addr) != 1) { fprintf(stderr, "no address: %s\n", argv[2]); return 2; }
    double rate = atof(argv[4]), seconds = atof(argv[5]), patience = atof(argv[6]);
    name = argv[7];
    first = atol(argv[8]);
    wanted = rate * seconds;
    long started = 0, oldest = 0;
    struct rlimit files = {DESCRIPTORS, DESCRIPTORS};
    setrlimit(RLIMIT_NOFILE, &files);
    all = calloc(wanted + 1, sizeof *all);
    owners = calloc(DESCRIPTORS, sizeof *owners);
    latencies = calloc(wanted + 1, sizeof *latencies);
    poller = epoll_create1(0);
    if (by_relay()) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(67)};
        int room = 1 << 25, on = 1;
        relay = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        setsockopt(relay, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        setsockopt(relay, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(relay, (struct sockaddr *)&own, sizeof own)) { perror("port 67"); return 2; }
        watch(relay, EPOLLIN, 0);
    }
    double start = now(), swept = start;
    struct epoll_event events[512];
    while (done + failed < wanted) {
        double t = now();
        for (; started < wanted && start + started / rate <= t; started++) begin(&all[started], start + started / rate);
        int count = epoll_wait(poller, events, 512, 1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == relay) { take_dhcp(); continue; }
            struct attempt *a = owners[events[i].data.fd];
            if (a) take(a, events[i].events);
        }
        if ((t = now()) - swept < 0.02) continue;
        swept = t;
        while (oldest < started && all[oldest].over) oldest++;
        for (long i = oldest; i < started; i++) {
            struct attempt *a = &all[i];
            if (a->over) continue;
            if (t - a->began > patience) over(a, 0);
            else if (a->sent < SENDINGS && t - a->said > waits[a->sent - 1]) say(a);
        }
    }
    qsort(latencies, done, sizeof *latencies, by_value);
    printf("{\"offered\": %ld, \"done\": %ld, \"failed\": %ld, \"repeats\": %ld, \"late\": %ld, \"p50\": %.4f, \"p99\": %.4f}\n",
           wanted, done, failed, repeats, late, done ? latencies[done / 2] : 0, done ? latencies[done * 99 / 100] : 0);
    return 0;
}
