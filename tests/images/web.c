/* The samples' web service: one static binary, no shell needed.
 * usage: web PORT VERSION [unhealthy]
 * GET /healthz -> 200 "ok" (500 when unhealthy), GET anything else -> 200 "certify-demo VERSION".
 * Logs a line per request to standard output; ends with status 0 on SIGTERM. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_term(int signal_number) {
    (void)signal_number;
    static const char bye[] = "web: stopping\n";
    if (write(1, bye, sizeof bye - 1) < 0) _exit(1);
    _exit(0);
}

static void answer(int client, const char *version, int unhealthy) {
    char request[2048], reply[512], body[128];
    ssize_t got = read(client, request, sizeof request - 1);
    if (got <= 0) return;
    request[got] = 0;
    int health = !strncmp(request, "GET /healthz", 12);
    int status = health && unhealthy ? 500 : 200;
    if (health) snprintf(body, sizeof body, "%s\n", unhealthy ? "unhealthy" : "ok");
    else snprintf(body, sizeof body, "certify-demo %s\n", version);
    int length = snprintf(reply, sizeof reply,
        "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        status, status == 200 ? "OK" : "Internal Server Error", strlen(body), body);
    if (write(client, reply, (size_t)length) != length) perror("web: write");
    printf("web: %.*s -> %d\n", (int)strcspn(request, "\r\n"), request, status);
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: web PORT VERSION [unhealthy]\n"); return 2; }
    int unhealthy = argc > 3 && !strcmp(argv[3], "unhealthy");
    struct sigaction stop = {.sa_handler = on_term};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    int server = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    if (bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 64)) { perror("web: listen"); return 1; }
    printf("web: version %s listens on port %s\n", argv[2], argv[1]);
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client < 0) continue;
        struct timeval limit = {.tv_sec = 5};
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        answer(client, argv[2], unhealthy);
        close(client);
    }
}
