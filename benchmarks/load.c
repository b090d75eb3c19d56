/* Many viewers in one process, so cheap that they do not limit what is measured.
 *
 *   load HOST PORT KIND CLIENTS AT_ONCE [AUTH DISTINCT EVENTS]
 *
 * KIND is `socketio` (Engine.IO 4 and Socket.IO 5 over WebSocket), `nats` (NATS over WebSocket, subject `v5`) or `raw` (a
 * connection and nothing else). AUTH is what a Socket.IO viewer says of itself, JSON; a %d in it is the viewer's number
 * modulo DISTINCT. Or it is @ and the name of a file that has DISTINCT of them, one a line. Connects CLIENTS viewers, AT_ONCE handshakes at a time, each of which is live once it has had EVENTS
 * events, and says so in one line of JSON. Then obeys lines on its standard input: `start` forgets what was counted so
 * far; `stop` prints what came since; `stall N` lets the first N viewers read no more; the end of the input ends it.
 *
 * An event is counted by the marker `"mark":NANOSECONDS` that it carries: CLOCK_MONOTONIC when it was emitted. Of the
 * events that come in one read, the first and the last are timed, all are counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { CONNECTING, UPGRADING, OPENING, LIVE, DEAD };
enum { READ_BYTES = 256 * 1024, TAIL_BYTES = 256 * 1024, SUB = 32, BUCKETS = 64 * SUB };

struct viewer {
    int fd;
    enum state state;
    int stalled;
    uint32_t tail_size;
    char *tail; /* the beginning of a frame whose end has not come */
    uint64_t events;
};

static const char MARK[] = "\"mark\":";
#define HELLO_BYTES_MAX 1024

static const char *kind, *auth = "{\"catchup\":0}";
static char **auths;
static int distinct = 1;
static uint64_t events_first;
static struct viewer *viewers;
static int clients, live, dead;
static uint64_t bytes_read, timed, buckets[BUCKETS];
static int64_t worst_us;
static char incoming[READ_BYTES + TAIL_BYTES];

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Microseconds in buckets whose width is 1/32 of their value. */
static int bucket_of(uint64_t us) {
    if (us < SUB) return (int)us;
    int shift = 63 - __builtin_clzll(us) - 5;
    int bucket = (shift + 1) * SUB + (int)((us >> shift) - SUB);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static uint64_t value_of(int bucket) {
    if (bucket < SUB) return bucket;
    return (uint64_t)(bucket % SUB + SUB) << (bucket / SUB - 1);
}

static void time_event(const char *data, size_t size, int64_t at_ns) {
    const char *mark = memmem(data, size, MARK, sizeof MARK - 1);
    if (!mark) return;
    int64_t us = (at_ns - strtoll(mark + sizeof MARK - 1, NULL, 10)) / 1000;
    if (us < 0) us = 0;
    if (us > worst_us) worst_us = us;
    buckets[bucket_of((uint64_t)us)]++;
    timed++;
}

static void die(struct viewer *viewer) {
    if (viewer->state == LIVE) live--;
    if (viewer->state != DEAD) dead++;
    viewer->state = DEAD;
    close(viewer->fd);
    viewer->fd = -1;
}

static void send_all(struct viewer *viewer, const void *data, size_t size) {
    if (send(viewer->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die(viewer);
}

/* One masked frame; the mask is zero, so the payload stays as it is. */
static void send_frame(struct viewer *viewer, int opcode, const char *payload) {
    char frame[HELLO_BYTES_MAX + 8] = {0};
    size_t size = strlen(payload), header = size < 126 ? 2 : 4;
    frame[0] = (char)(0x80 | opcode);
    frame[1] = (char)(0x80 | (size < 126 ? size : 126));
    if (header == 4) frame[2] = (char)(size >> 8), frame[3] = (char)size;
    memcpy(frame + header + 4, payload, size);
    send_all(viewer, frame, size + header + 4);
}

static void became_live(struct viewer *viewer) {
    viewer->state = LIVE;
    live++;
}

/* `timer` keeps the last event of the read, to be timed at its end. */
static void got_socketio(struct viewer *viewer, const char *data, size_t size, int64_t at_ns, const char **last,
                         size_t *last_size) {
    if (size == 1 && data[0] == '2') {
        send_frame(viewer, 1, "3");
    } else if (size > 1 && data[0] == '0' && viewer->state == OPENING) {
        char hello[HELLO_BYTES_MAX] = "40";
        int number = (int)(viewer - viewers) % distinct;
        if (auths) snprintf(hello + 2, sizeof hello - 2, "%s", auths[number]);
        else snprintf(hello + 2, sizeof hello - 2, auth, number);
        send_frame(viewer, 1, hello);
    } else if (size > 2 && data[0] == '4' && data[1] == '0' && viewer->state == OPENING) {
        if (!events_first) became_live(viewer);
    } else if (size > 10 && memcmp(data, "42[\"event\"", 10) == 0) {
        if (++viewer->events == events_first && viewer->state == OPENING) became_live(viewer);
        if (!*last) time_event(data, size, at_ns);
        *last = data;
        *last_size = size;
    }
}

static void got_nats(struct viewer *viewer, const char *data, size_t size, int64_t at_ns, const char **last,
                     size_t *last_size) {
    if (viewer->state == OPENING && size > 5 && memcmp(data, "INFO ", 5) == 0) {
        send_frame(viewer, 2, "CONNECT {\"verbose\":false,\"protocol\":1}\r\nSUB v5 1\r\nPING\r\n");
        return;
    }
    if (viewer->state == OPENING && memmem(data, size, "PONG\r\n", 6)) became_live(viewer);
    if (size == 6 && memcmp(data, "PING\r\n", 6) == 0) send_frame(viewer, 2, "PONG\r\n");
    const char *at = data, *end = data + size, *mark;
    while ((mark = memmem(at, end - at, MARK, sizeof MARK - 1))) {
        viewer->events++;
        if (!*last) time_event(mark, end - mark, at_ns);
        *last = mark;
        *last_size = end - mark;
        at = mark + sizeof MARK;
    }
}

/* Whole frames of what has come; returns how much of it they are. */
static size_t take_frames(struct viewer *viewer, const char *data, size_t size, int64_t at_ns) {
    size_t at = 0;
    const char *last = NULL, *first = NULL;
    size_t last_size = 0;
    while (size - at >= 2) {
        const unsigned char *head = (const unsigned char *)data + at;
        size_t header = 2, length = head[1] & 127;
        if (length == 126) {
            header = 4;
            if (size - at < header) break;
            length = (size_t)head[2] << 8 | head[3];
        } else if (length == 127) {
            header = 10;
            if (size - at < header) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | head[i];
        }
        if (size - at < header + length) break;
        const char *payload = data + at + header;
        int opcode = head[0] & 15;
        if (opcode == 8) {
            die(viewer);
            return size;
        }
        if (kind[0] == 's') got_socketio(viewer, payload, length, at_ns, &last, &last_size);
        else got_nats(viewer, payload, length, at_ns, &last, &last_size);
        if (!first) first = last;
        at += header + length;
    }
    if (last && last != first) time_event(last, last_size, at_ns);
    return at;
}

/* No frames: whatever stands behind the last marker may be the beginning of the next. */
static size_t take_marks(struct viewer *viewer, const char *data, size_t size, int64_t at_ns) {
    const char *at = data, *end = data + size, *mark;
    while ((mark = memmem(at, end - at, MARK, sizeof MARK - 1)) && end - mark > 32) {
        viewer->events++;
        time_event(mark, end - mark, at_ns);
        at = mark + sizeof MARK;
    }
    return mark ? (size_t)(mark - data) : (size > 32 ? size - 32 : 0) > (size_t)(at - data) ? size - 32 : (size_t)(at - data);
}

static void upgraded(struct viewer *viewer, char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end || memcmp(data, "HTTP/1.1 101", 12) != 0) {
        if (dead < 3) fprintf(stderr, "refused: %.80s\n", data);
        die(viewer);
        return;
    }
    viewer->state = OPENING;
    size_t rest = size - (end + 4 - data);
    size_t taken = take_frames(viewer, end + 4, rest, now_ns());
    viewer->tail_size = (uint32_t)(rest - taken);
    if (viewer->tail_size) {
        viewer->tail = malloc(TAIL_BYTES);
        memcpy(viewer->tail, end + 4 + taken, viewer->tail_size);
    }
}

static void readable(struct viewer *viewer) {
    size_t had = viewer->tail_size;
    if (had) memcpy(incoming, viewer->tail, had);
    ssize_t got = recv(viewer->fd, incoming + had, READ_BYTES, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) die(viewer);
        return;
    }
    bytes_read += (uint64_t)got;
    size_t size = had + (size_t)got;
    if (viewer->state == UPGRADING) {
        upgraded(viewer, incoming, size);
        return;
    }
    size_t taken = kind[0] == 'r' ? take_marks(viewer, incoming, size, now_ns()) : take_frames(viewer, incoming, size, now_ns());
    if (viewer->state == DEAD) return;
    viewer->tail_size = (uint32_t)(size - taken);
    if (!viewer->tail_size) {
        free(viewer->tail);
        viewer->tail = NULL;
        return;
    }
    if (viewer->tail_size > TAIL_BYTES) {
        die(viewer);
        return;
    }
    if (!viewer->tail) viewer->tail = malloc(TAIL_BYTES);
    memcpy(viewer->tail, incoming + taken, viewer->tail_size);
}

static void ask_for_upgrade(struct viewer *viewer, const char *host, int port) {
    char request[512];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        kind[0] == 's' ? "/socket.io/?EIO=4&transport=websocket" : "/", host, port);
    viewer->state = UPGRADING;
    send_all(viewer, request, (size_t)size);
}

static void begin(struct viewer *viewer, const struct sockaddr_in *address, int poller) {
    viewer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    viewer->state = CONNECTING;
    if (viewer->fd < 0) {
        perror("socket");
        exit(1);
    }
    int one = 1;
    setsockopt(viewer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLIN, .data.ptr = viewer};
    epoll_ctl(poller, EPOLL_CTL_ADD, viewer->fd, &event);
    if (connect(viewer->fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno != EINPROGRESS) die(viewer);
}

static uint64_t percentile(double share) {
    uint64_t rank = (uint64_t)(share * (double)timed), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += buckets[i]) > rank) return value_of(i);
    return (uint64_t)worst_us;
}

static void forget(void) {
    memset(buckets, 0, sizeof buckets);
    timed = bytes_read = 0;
    worst_us = 0;
    for (int i = 0; i < clients; i++) viewers[i].events = 0;
}

static void report(void) {
    uint64_t events = 0, least = UINT64_MAX, most = 0;
    for (int i = 0; i < clients; i++) {
        if (viewers[i].stalled) continue;
        events += viewers[i].events;
        if (viewers[i].events < least) least = viewers[i].events;
        if (viewers[i].events > most) most = viewers[i].events;
    }
    static const double shares[] = {0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999};
    printf("{\"events\":%lu,\"least\":%lu,\"most\":%lu,\"live\":%d,\"dead\":%d,\"bytes\":%lu,\"timed\":%lu,\"max_us\":%ld",
           events, least, most, live, dead, bytes_read, timed, worst_us);
    printf(",\"percentiles\":[");
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        printf("%s[%g,%lu]", i ? "," : "", shares[i] * 100, percentile(shares[i]));
    printf("]}\n");
    fflush(stdout);
}

static void stall(int count) {
    for (int i = 0; i < count && i < clients; i++) viewers[i].stalled = 1;
}

/* A line of the standard input; 0 at its end. */
static int obey(void) {
    char line[64];
    ssize_t got = read(0, line, sizeof line - 1);
    if (got <= 0) return 0;
    line[got] = 0;
    if (strncmp(line, "start", 5) == 0) forget();
    else if (strncmp(line, "stop", 4) == 0) report();
    else if (strncmp(line, "stall", 5) == 0) stall(atoi(line + 5));
    return 1;
}

static void read_auths(const char *name) {
    FILE *file = fopen(name, "r");
    char line[HELLO_BYTES_MAX];
    auths = calloc((size_t)distinct, sizeof *auths);
    for (int i = 0; i < distinct; i++) {
        if (!file || !fgets(line, sizeof line, file)) {
            fprintf(stderr, "%s: expected %d lines\n", name, distinct);
            exit(2);
        }
        line[strcspn(line, "\n")] = 0;
        auths[i] = strdup(line);
    }
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc != 6 && argc != 9) return fprintf(stderr, "load HOST PORT KIND CLIENTS AT_ONCE [AUTH DISTINCT EVENTS]\n"), 2;
    const char *host = argv[1];
    int port = atoi(argv[2]), at_once = atoi(argv[5]), begun = 0, told = 0;
    kind = argv[3];
    clients = atoi(argv[4]);
    if (argc == 9) auth = argv[6], distinct = atoi(argv[7]), events_first = (uint64_t)atoll(argv[8]);
    if (*auth == '@') read_auths(auth + 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    viewers = calloc((size_t)clients, sizeof *viewers);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int poller = epoll_create1(0);
    struct epoll_event events[512], input = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input);
    int64_t began_ns = now_ns();
    for (;;) {
        while (begun < clients && begun - live - dead < at_once) begin(&viewers[begun++], &address, poller);
        if (!told && begun == clients && live + dead == clients) {
            printf("{\"live\":%d,\"dead\":%d,\"seconds\":%.3f}\n", live, dead, (double)(now_ns() - began_ns) / 1e9);
            fflush(stdout);
            told = 1;
        }
        int count = epoll_wait(poller, events, 512, 1000);
        for (int i = 0; i < count; i++) {
            struct viewer *viewer = events[i].data.ptr;
            if (!viewer) {
                if (!obey()) return 0;
                continue;
            }
            if (viewer->state == DEAD) continue;
            if (viewer->stalled) {
                epoll_ctl(poller, EPOLL_CTL_DEL, viewer->fd, NULL);
                continue;
            }
            if (viewer->state == CONNECTING) {
                if (events[i].events & (EPOLLERR | EPOLLHUP)) {
                    die(viewer);
                    continue;
                }
                struct epoll_event reading = {.events = EPOLLIN, .data.ptr = viewer};
                epoll_ctl(poller, EPOLL_CTL_MOD, viewer->fd, &reading);
                if (kind[0] == 'r') became_live(viewer);
                else ask_for_upgrade(viewer, host, port);
            } else {
                readable(viewer);
            }
        }
    }
}
