/* A chat server that streams on a schedule and knows the truth about it; for measuring clients.
 *
 *   cc -O2 -o paced_server paced_server.c && ./paced_server PORT TTFT_MS ITL_MS
 *
 * A POST is answered by max_tokens chunks: the first TTFT_MS after the request's last byte, then one every ITL_MS (0: as
 * fast as the connection takes them), then usage and [DONE]. GET /truth tells what really happened since it was last
 * asked: requests, tokens, span_s, mean_ttft_ms, p99_itl_ms. All gaps are equal, so two queues keep everything in order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, IN = 131072, GAPS = 200000 };

struct stream {
  char in[IN];
  size_t have;
  int asked, sent, live;
  unsigned life; /* of the descriptor: what is queued for an earlier one is void */
  double due, last, received;
};

struct entry { int fd; unsigned life; };
struct queue { struct entry at[MOST * 2]; unsigned head, tail; };

static struct stream *streams[MOST];
static struct queue firsts, nexts;
static unsigned lives;
static double ttft, itl, first_received, last_sent, ttfts;
static long requests, tokens, gaps, histogram[GAPS + 1]; /* of 10 microseconds each */
static int poll_fd;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void put(struct queue *q, int fd) { q->at[q->tail++ % (MOST * 2)] = (struct entry){fd, streams[fd]->life}; }

static struct stream *head(struct queue *q) {
  for (; q->head != q->tail; q->head++) {
    struct entry e = q->at[q->head % (MOST * 2)];
    if (streams[e.fd] && streams[e.fd]->life == e.life && streams[e.fd]->live) return streams[e.fd];
  }
  return NULL;
}

static void end(int fd) {
  free(streams[fd]);
  streams[fd] = NULL;
  close(fd);
}

/* All or nothing: a chunk is far smaller than a socket's buffer, and a full one means that the client has stopped reading. */
static int say(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) { usleep(50); continue; }
    if (sent < 0) { end(fd); return 0; }
    data += sent;
    size -= sent;
  }
  return 1;
}

static int event(char *to, const char *json) { return sprintf(to, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json); }

static void chunk(int fd, struct stream *s) {
  char json[512], out[2048];
  int size, is_last = s->sent + 1 >= s->asked;
  double t = now();
  snprintf(json, sizeof json, "{\"id\":\"chatcmpl-%d\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"paced\",\"choices\":[{\"index\":0,"
           "\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":%s,\"token_ids\":null}]}", fd, is_last ? "\"length\"" : "null");
  size = event(out, json);
  if (s->sent == 0) ttfts += t - s->received;
  else {
    long step = (long)((t - s->last) * 1e5);
    gaps++;
    histogram[step < GAPS ? step : GAPS]++;
  }
  s->last = last_sent = t;
  s->sent++;
  tokens++;
  if (is_last) {
    snprintf(json, sizeof json, "{\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"total_tokens\":%d,\"completion_tokens\":%d}}", s->sent + 10, s->sent);
    size += event(out + size, json);
    size += event(out + size, "[DONE]");
    size += sprintf(out + size, "0\r\n\r\n");
    s->live = 0;
  } else {
    s->due = itl > 0 ? s->due + itl : t;
    put(&nexts, fd);
  }
  say(fd, out, size);
}

static void truth(int fd) {
  char body[512], out[1024];
  long seen = 0, step = 0;
  while (step < GAPS && (seen += histogram[step]) <= gaps * 99 / 100) step++;
  snprintf(body, sizeof body, "{\"requests\":%ld,\"tokens\":%ld,\"span_s\":%.6f,\"mean_ttft_ms\":%.4f,\"p99_itl_ms\":%.2f}", requests, tokens,
           requests ? last_sent - first_received : 0, requests ? ttfts / requests * 1e3 : 0, gaps ? (step + 0.5) / 100 : 0);
  say(fd, out, sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(body), body));
  requests = tokens = gaps = 0;
  ttfts = 0;
  memset(histogram, 0, sizeof histogram);
}

static void request(int fd, struct stream *s) {
  char *body = memmem(s->in, s->have, "\r\n\r\n", 4), *field;
  size_t length;
  if (!body || s->live) return;
  s->in[s->have] = 0;
  body += 4;
  field = strcasestr(s->in, "content-length:");
  length = field && field < body ? strtoul(field + 15, NULL, 10) : 0;
  if (s->have < (size_t)(body - s->in) + length) return;
  s->have = 0; /* no client here sends a request before it has its answer */
  if (!strncmp(s->in, "POST /v1/", 9)) {
    static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    field = strstr(body, "\"max_tokens\"");
    if (!field) field = strstr(body, "\"max_completion_tokens\"");
    s->asked = field ? atoi(strchr(field, ':') + 1) : 16;
    s->sent = 0;
    s->live = 1;
    s->received = now();
    s->due = s->received + ttft;
    if (!requests++) first_received = s->received;
    put(&firsts, fd);
    say(fd, answer, sizeof answer - 1);
  } else if (strstr(s->in, " /truth")) truth(fd);
  else {
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"paced\",\"object\":\"model\"}]}";
    char out[512];
    say(fd, out, sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", sizeof models - 1, models));
  }
}

static void readable(int fd) {
  struct stream *s = streams[fd];
  ssize_t size = recv(fd, s->in + s->have, IN - 1 - s->have, 0);
  if (size > 0) {
    s->have += size;
    request(fd, s);
  } else if (size == 0 || errno != EAGAIN) end(fd);
}

static void accepted(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    struct epoll_event wish = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= MOST || !(streams[fd] = calloc(1, sizeof **streams))) { close(fd); continue; }
    streams[fd]->life = ++lives;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &wish);
  }
}

/* Send what is due, at most a few at a time so that requests are read in between; seconds until the next is due. */
static double serve(void) {
  for (int count = 0; count < 64; count++) {
    struct stream *a = head(&firsts), *b = head(&nexts);
    struct queue *q = !a || (b && b->due < a->due) ? &nexts : &firsts;
    struct stream *s = q == &firsts ? a : b;
    if (!s) return 0.5;
    double left = s->due - now();
    if (left > 0) return left < 0.5 ? left : 0.5;
    chunk(q->at[q->head++ % (MOST * 2)].fd, s);
  }
  return 0;
}

int main(int argc, char **argv) {
  static struct epoll_event events[1024];
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct epoll_event wish = {.events = EPOLLIN, .data.fd = listener};
  if (argc != 4) { fprintf(stderr, "usage: paced_server PORT TTFT_MS ITL_MS\n"); return 2; }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  ttft = atof(argv[2]) / 1e3;
  itl = atof(argv[3]) / 1e3;
  signal(SIGPIPE, SIG_IGN);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("paced_server"); return 1; }
  poll_fd = epoll_create1(0);
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &wish);
  for (;;) {
    double left = serve();
    struct timespec wait = {0, (long)(left * 1e9)};
    int count = epoll_pwait2(poll_fd, events, 1024, &wait, NULL);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) accepted(listener);
      else if (streams[events[i].data.fd]) readable(events[i].data.fd);
    }
  }
}
