/* A load of TFTP reads, cheap enough not to be the limit: one thread, one socket per transfer, epoll, recvmmsg.
 *
 *   load HOST PORT FILE CONTENT CLIENTS TRANSFERS BLKSIZE WINDOWSIZE SECONDS
 *
 * CLIENTS transfers of FILE at once until TRANSFERS have ended or SECONDS are over. Every block is compared with CONTENT, a
 * file with what FILE should hold; "-" when FILE is missing and ERROR 1 is the right answer. WINDOWSIZE 1 asks for none.
 * A transfer that hears nothing for a second repeats what it last said. Sockets are made before the time counts. Prints
 * one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SLOT = 65536 / 8, REPEAT_MS = 1000, DESCRIPTORS = 65536, READY = 20000 };

struct transfer {
    int fd, connected, oack;
    unsigned long block; /* last block in order */
    unsigned unacked;    /* blocks since the last ACK */
    long blksize, windowsize;
    double began, heard;
    unsigned char last[600];
    size_t last_size;
};

static struct sockaddr_in server;
static const unsigned char *content;
static size_t size;
static const char *name;
static long blksize, windowsize;
static int missing;
static long done, failed, repeats, started, bytes;
static double *latencies;
static struct transfer *owners[DESCRIPTORS]; /* by descriptor */
static int ready[READY], unused;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void say(struct transfer *t) {
    if (t->connected)
        send(t->fd, t->last, t->last_size, 0);
    else
        sendto(t->fd, t->last, t->last_size, 0, (struct sockaddr *)&server, sizeof server);
}

static void ack(struct transfer *t) {
    unsigned char *p = t->last;
    p[0] = 0; p[1] = 4; p[2] = t->block >> 8 & 255; p[3] = t->block & 255;
    t->last_size = 4;
    t->unacked = 0;
    say(t);
}

static int field(unsigned char *p, const char *text) { return (int)strlen(strcpy((char *)p, text)) + 1; }

static int made(int epoll) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 1 << 20;
    struct sockaddr_in any = {.sin_family = AF_INET};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    bind(fd, (struct sockaddr *)&any, sizeof any);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

static void begin(struct transfer *t, int epoll) {
    char number[32];
    if (t->fd >= 0) {
        owners[t->fd] = 0;
        if (!unused) close(t->fd);
    }
    t->fd = unused ? ready[--unused] : made(epoll);
    owners[t->fd] = t;
    t->connected = t->oack = 0;
    t->block = t->unacked = 0;
    t->blksize = 512;
    t->windowsize = 1;
    unsigned char *p = t->last;
    *p++ = 0; *p++ = 1;
    p += field(p, name);
    p += field(p, "octet");
    if (blksize != 512) { snprintf(number, sizeof number, "%ld", blksize); p += field(p, "blksize"); p += field(p, number); }
    if (windowsize > 1) { snprintf(number, sizeof number, "%ld", windowsize); p += field(p, "windowsize"); p += field(p, number); }
    t->last_size = p - t->last;
    t->began = t->heard = now();
    started++;
    say(t);
}

static void end(struct transfer *t, int epoll, long wanted, int good) {
    if (good) latencies[done] = now() - t->began;
    if (good) done++; else failed++;
    if (started < wanted) begin(t, epoll);
    else { owners[t->fd] = 0; t->fd = -1; }
}

/* One datagram; 1: the transfer has ended well, -1: it has failed. */
static int take(struct transfer *t, unsigned char *d, ssize_t n, const struct sockaddr_in *from) {
    if (n < 4) return 0;
    if (missing && d[1] == 5 && d[3] == 1) return 1;
    if (!t->connected) { connect(t->fd, (const struct sockaddr *)from, sizeof *from); t->connected = 1; }
    t->heard = now();
    if (d[1] == 5) return -1;
    if (d[1] == 6) {
        if (t->block) return 0;
        for (char *p = (char *)d + 2, *stop = (char *)d + n; p < stop;) {
            char *value = p + strlen(p) + 1;
            if (!strcasecmp(p, "blksize")) t->blksize = atol(value);
            if (!strcasecmp(p, "windowsize")) t->windowsize = atol(value);
            p = value + strlen(value) + 1;
        }
        t->oack = 1;
        ack(t);
        return 0;
    }
    if (d[1] != 3) return 0;
    unsigned wire = d[2] << 8 | d[3];
    if (wire != ((t->block + 1) & 0xffff)) {
        if (t->windowsize > 1 && t->unacked) ack(t);
        return 0;
    }
    size_t at = t->block * t->blksize;
    n -= 4;
    if (missing || at + n > size || memcmp(d + 4, content + at, n)) return -1;
    t->block++;
    t->unacked++;
    bytes += n;
    int last = n < t->blksize;
    if (last || t->unacked >= t->windowsize) ack(t);
    if (!last) return 0;
    return at + n == size ? 1 : -1;
}

static int by_value(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static double cpu(const struct rusage *used) {
    return used->ru_utime.tv_sec + used->ru_utime.tv_usec / 1e6 + used->ru_stime.tv_sec + used->ru_stime.tv_usec / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 10) { fprintf(stderr, "usage: load HOST PORT FILE CONTENT CLIENTS TRANSFERS BLKSIZE WINDOWSIZE SECONDS\n"); return 2; }
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) { fprintf(stderr, "no address: %s\n", argv[1]); return 2; }
    name = argv[3];
    missing = !strcmp(argv[4], "-");
    long clients = atol(argv[5]), wanted = atol(argv[6]);
    blksize = atol(argv[7]);
    windowsize = atol(argv[8]);
    double limit = atof(argv[9]);
    if (!missing) {
        int fd = open(argv[4], O_RDONLY);
        struct stat s;
        if (fd < 0 || fstat(fd, &s)) { perror(argv[4]); return 2; }
        size = s.st_size;
        content = size ? mmap(0, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0) : (const unsigned char *)"";
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max > DESCRIPTORS) files.rlim_max = DESCRIPTORS;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    long room = (long)files.rlim_cur - 2 * clients - 100;
    latencies = calloc(wanted + 1, sizeof *latencies);
    struct transfer *all = calloc(clients, sizeof *all);
    int epoll = epoll_create1(0);
    static unsigned char buffers[BATCH][SLOT];
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    static struct sockaddr_in from[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){buffers[i], SLOT};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    while (unused < wanted && unused < READY && unused < room) { ready[unused] = made(epoll); unused++; }
    struct rusage before, used;
    getrusage(RUSAGE_SELF, &before);
    double start = now(), swept = start;
    for (long i = 0; i < clients && started < wanted; i++) { all[i].fd = -1; begin(&all[i], epoll); }
    struct epoll_event events[256];
    while (done + failed < wanted && now() - start < limit) {
        int count = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < count; i++) {
            struct transfer *t = owners[events[i].data.fd];
            if (!t) { /* late, after a transfer's end; or before its beginning, for who had this port before */
                recv(events[i].data.fd, buffers[0], SLOT, MSG_DONTWAIT);
                continue;
            }
            /* With lock-step a socket holds one datagram: the plain call is the cheap one. */
            int n = t->windowsize > 1 ? recvmmsg(t->fd, messages, BATCH, MSG_DONTWAIT, 0) : 1;
            for (int m = 0; m < n; m++) {
                ssize_t length = messages[m].msg_len;
                if (t->windowsize <= 1) {
                    socklen_t room = sizeof from[0];
                    length = recvfrom(t->fd, buffers[0], SLOT, 0, (struct sockaddr *)&from[0], &room);
                    if (length < 0) break;
                }
                int over = take(t, buffers[m], length, &from[m]);
                if (over) { end(t, epoll, wanted, over > 0); break; }
            }
        }
        double t0 = now();
        if (t0 - swept > 0.1) {
            swept = t0;
            for (long i = 0; i < clients; i++)
                if (all[i].fd >= 0 && (t0 - all[i].heard) * 1000 > REPEAT_MS) { all[i].heard = t0; repeats++; say(&all[i]); }
        }
    }
    double seconds = now() - start;
    getrusage(RUSAGE_SELF, &used);
    qsort(latencies, done, sizeof *latencies, by_value);
    printf("{\"seconds\": %.6f, \"done\": %ld, \"failed\": %ld, \"unfinished\": %ld, \"bytes\": %ld, \"repeats\": %ld, "
           "\"p50\": %.6f, \"p99\": %.6f, \"cpu\": %.3f}\n",
           seconds, done, failed, wanted - done - failed, bytes, repeats, done ? latencies[done / 2] : 0,
           done ? latencies[done * 99 / 100] : 0,
           cpu(&used) - cpu(&before));
    return failed || done < wanted ? 1 : 0;
}
