/* SPDX-License-Identifier: MIT */
/* TLS without a socket, for a client: ciphertext is fed and taken, plaintext is read and written.
 * By OpenSSL 3 (1.1.1 does as well), which this header does not need.
 *
 * After `init` and after every feed: `handshake` until it is done, from then on `read` until it
 * needs more. Each of them, and write and shutdown too, may leave bytes for the peer in `output`.
 *
 * Death is sticky, and `why` tells the reason: one line of printable characters with no secret in
 * it. A dead engine's output is still to be sent, for it may be the alert that tells the peer. Who
 * takes bytes and cannot hand them on sets `dead`.
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
  REDIO_TLS_ENDED,     /* the peer has said that no more will come (close_notify) */
  REDIO_TLS_DEAD       /* see why */
} redio_tls_status;

typedef struct redio_tls_settings {
  const char *ca;   /* a file of certificates, or a directory of them by hash; NULL: the system's */
  const char *cert; /* the client's own certificate and its chain; NULL: none */
  const char *key;  /* of that certificate; NULL: in the same file */
  int verify;       /* the peer's chain and name; when 0, anyone may pose as the server */
  int only_tls13;   /* otherwise TLS 1.2 will do, and nothing older ever */
} redio_tls_settings;

typedef struct redio_tls_context {
  struct ssl_ctx_st *ctx;
} redio_tls_context;

typedef struct redio_tls {
  struct ssl_st *ssl;
  struct bio_st *in, *out;   /* of ssl */
  unsigned char first_byte;  /* of the peer */
  unsigned char heard;       /* there was one */
  unsigned char established; /* the handshake is done */
  unsigned char dead;
  unsigned char by_address; /* `name` is an IP address */
  char name[REDIO_TLS_NAME];
  char why[REDIO_TLS_WHY];
} redio_tls;

/* Reads the files. 0, or -1 with the reason in `why` (REDIO_TLS_WHY bytes). Never asks a terminal
 * for a password. */
int redio_tls_context_init(redio_tls_context *c, const redio_tls_settings *settings, char *why);
void redio_tls_context_free(redio_tls_context *c);

/* A connection to the host of that name, which must be on the certificate as a DNS name or, for an
 * IP address, as one; the subject's CN never counts. NULL is for those who do not verify. 0, or -1
 * with the reason in `t->why`. The context may be freed before the engine. */
int redio_tls_init(redio_tls *t, const redio_tls_context *c, const char *name);
void redio_tls_free(redio_tls *t);

redio_tls_status redio_tls_feed(redio_tls *t, const char *bytes, size_t n);

/* OK once, and ever after, it is done. */
redio_tls_status redio_tls_handshake(redio_tls *t);

/* OK with at least one byte in `to`. */
redio_tls_status redio_tls_read(redio_tls *t, char *to, size_t room, size_t *got);

/* OK: all is encrypted. NEED_MORE: the handshake is not done, and nothing was taken. */
redio_tls_status redio_tls_write(redio_tls *t, const char *bytes, size_t n);

/* Bytes for the peer: how many were put into `to`. */
size_t redio_tls_output(redio_tls *t, char *to, size_t room);

/* No more bytes of the peer will come. ENDED when it has said so itself; DEAD when it was cut
 * short, by whomever. To be called when read needs more. */
redio_tls_status redio_tls_end(redio_tls *t);

/* Tells the peer that we write no more. */
void redio_tls_shutdown(redio_tls *t);

/* "TLSv1.3" and the like, and the cipher's name; NULL before the handshake is done. */
const char *redio_tls_version(const redio_tls *t);
const char *redio_tls_cipher(const redio_tls *t);

#endif
