/* What no server can do without: one send() of a ready message for each viewer.
 *
 *   floor PORT CLIENTS RATE SECONDS PER_WRITE BYTES
 *
 * Waits for CLIENTS connections, says so, and after a line on its standard input writes RATE events a second to each of
 * them, PER_WRITE in one write, BYTES each. Prints its CPU time and how many writes that were.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 7) return fprintf(stderr, "floor PORT CLIENTS RATE SECONDS PER_WRITE BYTES\n"), 2;
    int clients = atoi(argv[2]), per_write = atoi(argv[5]), bytes = atoi(argv[6]);
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, *viewers = calloc((size_t)clients, sizeof(int));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) return perror("bind"), 1;
    puts("{\"listens\":true}");
    fflush(stdout);
    for (int i = 0; i < clients; i++) {
        viewers[i] = accept(listener, NULL, NULL);
        setsockopt(viewers[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    char *message = malloc((size_t)(bytes * per_write) + 64);
    getchar();
    double before_s = cpu_s();
    int64_t began_ns = now_ns(), step_ns = (int64_t)(per_write / rate * 1e9);
    long writes = 0;
    for (int64_t round = 0; round * step_ns < (int64_t)(seconds * 1e9); round++) {
        int64_t wait_ns = began_ns + round * step_ns - now_ns();
        if (wait_ns > 0) {
            struct timespec pause = {wait_ns / 1000000000, wait_ns % 1000000000};
            nanosleep(&pause, NULL);
        }
        memset(message, 'x', (size_t)(bytes * per_write));
        for (int i = 0; i < per_write; i++) {
            char mark[40];
            int size = snprintf(mark, sizeof mark, "{\"mark\":%ld}", now_ns());
            memcpy(message + i * bytes, mark, (size_t)size);
        }
        for (int i = 0; i < clients; i++) writes += send(viewers[i], message, (size_t)(bytes * per_write), MSG_NOSIGNAL) > 0;
    }
    printf("{\"cpu_s\":%.4f,\"writes\":%ld}\n", cpu_s() - before_s, writes);
    return 0;
}
