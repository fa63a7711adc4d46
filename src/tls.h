/* SPDX-License-Identifier: MIT */
/* TLS without a socket, for a client: ciphertext is fed and taken, plaintext is read and written.
 * OpenSSL 3, or 1.1.1, does the work; this header does not need it.
 *
 * After `init` and after every feed the caller calls `handshake` until it is done, and from then on
 * `read` until it needs more. These calls, `write` and `shutdown` may leave bytes for the peer in
 * `output`.
 *
 * Dead is sticky, and `why` has the reason: one line of printable characters without any secret.
 * The output of a dead engine must still be sent: it may be the alert for the peer. A caller that
 * has taken bytes and cannot pass them on sets `dead`.
 *
 * Zeroed memory is a closed context, or a closed engine. */
#ifndef REDIO_TLS_H
#define REDIO_TLS_H

#include <stddef.h>

struct bio_st;
struct ssl_ctx_st;
struct ssl_st;

enum { REDIO_TLS_WHY = 320, REDIO_TLS_NAME = 256 };

typedef enum redio_tls_status {
  REDIO_TLS_OK,
  REDIO_TLS_NEED_MORE, /* bytes of the peer */
  REDIO_TLS_ENDED,     /* the peer has sent close_notify: no more bytes will come */
  REDIO_TLS_DEAD       /* see `why` */
} redio_tls_status;

typedef struct redio_tls_settings {
  const char *ca;   /* a file of certificates, or a directory of them by hash; NULL: the system's */
  const char *cert; /* the client's own certificate and its chain; NULL: none */
  const char *key;  /* of that certificate; NULL: in the same file */
  int verify;       /* the peer's chain and name; 0: any server is accepted */
  int only_tls13;   /* 0: TLS 1.2 is accepted, too; older versions never are */
} redio_tls_settings;

typedef struct redio_tls_context {
  struct ssl_ctx_st *ctx;
} redio_tls_context;

typedef struct redio_tls {
  struct ssl_st *ssl;
  struct bio_st *in, *out;   /* of ssl */
  unsigned char first_byte;  /* of the peer */
  unsigned char heard;       /* it has come */
  unsigned char established; /* the handshake is done */
  unsigned char dead;
  unsigned char by_address; /* `name` is an IP address */
  char name[REDIO_TLS_NAME];
  char why[REDIO_TLS_WHY];
} redio_tls;

/* Reads the files. Returns 0, or -1 with the reason in `why` (REDIO_TLS_WHY bytes). Never asks the
 * terminal for a password. */
int redio_tls_context_init(redio_tls_context *c, const redio_tls_settings *settings, char *why);
void redio_tls_context_free(redio_tls_context *c);

/* Makes an engine for a connection to the host `name`. The certificate must have it as a DNS name
 * or, for an IP address, as an address; the subject's CN never counts. NULL needs a context that
 * does not verify. Returns 0, or -1 with the reason in `t->why`. The context may be freed before
 * the engine. */
int redio_tls_init(redio_tls *t, const redio_tls_context *c, const char *name);
void redio_tls_free(redio_tls *t);

redio_tls_status redio_tls_feed(redio_tls *t, const char *bytes, size_t n);

/* OK: the handshake is done. */
redio_tls_status redio_tls_handshake(redio_tls *t);

/* OK with at least one byte in `to`. */
redio_tls_status redio_tls_read(redio_tls *t, char *to, size_t room, size_t *got);

/* OK: all n bytes are encrypted. NEED_MORE: the handshake is not done, and no byte was taken. */
redio_tls_status redio_tls_write(redio_tls *t, const char *bytes, size_t n);

/* Puts bytes for the peer into `to`; returns their number. */
size_t redio_tls_output(redio_tls *t, char *to, size_t room);

/* Ends the peer's bytes. ENDED: the peer has sent close_notify. DEAD: the stream was cut short. To
 * be called when `read` needs more. */
redio_tls_status redio_tls_end(redio_tls *t);

/* Sends close_notify: nothing will be written any more. */
void redio_tls_shutdown(redio_tls *t);

/* Return "TLSv1.3" and the like, and the cipher's name; NULL before the handshake is done. */
const char *redio_tls_version(const redio_tls *t);
const char *redio_tls_cipher(const redio_tls *t);

#endif
