// What the C library says: ask (any|v4|v6) NAME prints its addresses, ask name ADDRESS its name.
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int reverse = !strcmp(argv[1], "name");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *list = NULL;
    if (!strcmp(argv[1], "v4")) hints.ai_family = AF_INET;
    if (!strcmp(argv[1], "v6")) hints.ai_family = AF_INET6;
    if (reverse) hints.ai_flags = AI_NUMERICHOST;
    int error = getaddrinfo(argv[2], NULL, &hints, &list);
    printf("= ");
    // No address, or no such name: another error is not an answer.
    if (error == EAI_NONAME || error == EAI_NODATA) printf("none ");
    else if (error) printf("%s ", gai_strerror(error));
    for (struct addrinfo *one = list; one; one = one->ai_next) {
        char text[256];
        int flags = reverse ? NI_NAMEREQD : NI_NUMERICHOST;
        error = getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, flags);
        printf("%s ", error ? gai_strerror(error) : text);
    }
    printf(".\n");
    return 0;
}
