/* What the kernel lets a TFTP server do: no timers, no checks, no log, no security. Not a server, a yardstick.
 *
 *   limit PORT DIRECTORY
 *
 * One thread: recvmmsg of what is there, one look-up by the client's port for each datagram, sendmmsg from the file's
 * framed image, a window as one UDP_SEGMENT run. A lost datagram stays lost. The first file and block size that are
 * asked for are the only ones; a file is looked at for each request all the same.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { BATCH = 64, LARGEST = 600 };

static struct { unsigned sent; unsigned windowsize; } transfers[65536]; /* by the client's port */
static unsigned char *image;
static size_t bytes, stride;
static unsigned blocks; /* the last one is never full, and may be empty */
static char asked[LARGEST];

static int make_image(const char *name, long blksize) {
    int fd = open(name, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) return 0;
    blocks = s.st_size / blksize + 1;
    stride = blksize + 4;
    bytes = s.st_size + 4L * blocks;
    image = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned block = 1; block <= blocks; block++) {
        unsigned char *p = image + (block - 1) * stride;
        p[1] = 3; p[2] = block >> 8 & 255; p[3] = block & 255;
        if (pread(fd, p + 4, blksize, (off_t)(block - 1) * blksize) < 0) return 0;
    }
    close(fd);
    strcpy(asked, name);
    return 1;
}

/* Where the answer lies and how long it is; 0: there is none. */
static size_t answer(unsigned char *d, size_t n, unsigned port, unsigned char *own, unsigned char **at) {
    if (d[1] == 4 && n >= 4) {
        unsigned acked = transfers[port].sent & ~0xffffu;
        acked |= d[2] << 8 | d[3];
        if (acked > transfers[port].sent) acked -= 65536;
        if (acked >= blocks) return 0;
        unsigned last = acked + transfers[port].windowsize;
        if (last > blocks) last = blocks;
        transfers[port].sent = last;
        *at = image + acked * stride;
        return (last == blocks ? bytes : last * stride) - acked * stride;
    }
    if (d[1] != 1) return 0;
    d[n] = 0;
    char *name = (char *)d + 2, *p = name + strlen(name) + 1, *stop = (char *)d + n;
    long blksize = 512, windowsize = 1;
    for (p += strlen(p) + 1; p < stop;) {
        char *value = p + strlen(p) + 1;
        if (!strcasecmp(p, "blksize")) blksize = atol(value);
        if (!strcasecmp(p, "windowsize")) windowsize = atol(value);
        p = value + strlen(value) + 1;
    }
    struct stat s;
    int fd = open(name, O_RDONLY);
    *at = own;
    if (fd < 0) {
        memcpy(own, "\0\5\0\1File not found", 19);
        return 19;
    }
    fstat(fd, &s);
    close(fd);
    if (strcmp(asked, name) && !make_image(name, blksize)) return 0;
    transfers[port].sent = 0;
    transfers[port].windowsize = windowsize;
    if (windowsize > 1)
        return 2 + sprintf((char *)memcpy(own, "\0\6", 2) + 2, "blksize%c%ld%cwindowsize%c%ld", 0, blksize, 0, 0, windowsize) + 1;
    return 2 + sprintf((char *)memcpy(own, "\0\6", 2) + 2, "blksize%c%ld", 0, blksize) + 1;
}

int main(int argc, char **argv) {
    if (argc != 3 || chdir(argv[2])) { fprintf(stderr, "usage: limit PORT DIRECTORY\n"); return 2; }
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 8 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) { perror("bind"); return 2; }
    static unsigned char in[BATCH][LARGEST + 1], own[BATCH][LARGEST];
    static struct sockaddr_in peers[BATCH];
    static struct iovec to[BATCH], from[BATCH];
    static struct mmsghdr received[BATCH], sent[BATCH];
    static union { struct cmsghdr head; char data[CMSG_SPACE(sizeof(short))]; } controls[BATCH];
    for (int i = 0; i < BATCH; i++) {
        to[i] = (struct iovec){in[i], LARGEST};
        controls[i].head = (struct cmsghdr){CMSG_LEN(sizeof(short)), IPPROTO_UDP, UDP_SEGMENT};
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++)
            received[i].msg_hdr = (struct msghdr){&peers[i], sizeof peers[i], &to[i], 1, 0, 0, 0};
        int count = recvmmsg(fd, received, BATCH, MSG_DONTWAIT, 0), answers = 0;
        if (count <= 0) {
            struct pollfd wait = {fd, POLLIN, 0};
            poll(&wait, 1, -1);
            continue;
        }
        for (int i = 0; i < count; i++) {
            unsigned char *at;
            size_t n = answer(in[i], received[i].msg_len, ntohs(peers[i].sin_port), own[i], &at);
            if (!n) continue;
            from[answers] = (struct iovec){at, n};
            struct msghdr *m = &sent[answers].msg_hdr;
            *m = (struct msghdr){&peers[i], sizeof peers[i], &from[answers], 1, 0, 0, 0};
            if (at != own[i] && n > stride) {
                *(unsigned short *)CMSG_DATA(&controls[answers].head) = stride;
                m->msg_control = &controls[answers];
                m->msg_controllen = sizeof controls[answers];
            }
            answers++;
        }
        for (int first = 0; first < answers;) {
            int left = sendmmsg(fd, sent + first, answers - first, 0);
            first += left > 0 ? left : 1;
        }
    }
}
