/* SPDX-License-Identifier: MIT */
#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

/* Words ---------------------------------------------------------------------------------------- */

/* Replaces control characters, so that text from outside (paths, OpenSSL's texts) cannot drive a
 * terminal. */
static void make_printable(char *text) {
  for (; *text; text++)
    if ((unsigned char)*text < 32 || *text == 127)
      *text = '?';
}

static const char *verify_words(long result) {
  switch (result) {
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    return "it is self-signed, and not among the trusted ones (tls.ca)";
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_CERT_UNTRUSTED:
    return "unknown CA: it is signed by none of the trusted authorities (tls.ca)";
  case X509_V_ERR_CERT_HAS_EXPIRED:
    return "it, or an authority's on its chain, has expired";
  case X509_V_ERR_CERT_NOT_YET_VALID:
    return "it, or an authority's on its chain, is not valid yet";
  case X509_V_ERR_INVALID_PURPOSE:
    return "it is not meant for a server";
  default:
    return X509_verify_cert_error_string(result);
  }
}

/* Returns the text for an alert of the server, or NULL. In TLS 1.3 the server checks the client's
 * certificate after the handshake has ended on this side. */
static const char *alert_words(int alert, int established) {
  switch (alert) {
  case SSL_AD_CERTIFICATE_REQUIRED:
    return "the server requires a client certificate (tls.cert, tls.key)";
  case SSL_AD_HANDSHAKE_FAILURE:
    if (established)
      return "the server has broken off (alert: handshake failure)";
    return "the server refuses: no common cipher, or it requires a client certificate (tls.cert, "
           "tls.key)";
  case SSL_AD_BAD_CERTIFICATE:
  case SSL_AD_UNSUPPORTED_CERTIFICATE:
  case SSL_AD_CERTIFICATE_UNKNOWN:
    return "the server does not accept the client certificate";
  case SSL_AD_CERTIFICATE_EXPIRED:
    return "the server says that the client certificate has expired";
  case SSL_AD_CERTIFICATE_REVOKED:
    return "the server says that the client certificate is revoked";
  case SSL_AD_UNKNOWN_CA:
    return "the server does not know the authority of the client certificate";
  case SSL_AD_PROTOCOL_VERSION:
    return "the server has no TLS version that is allowed here (tls.min_version)";
  case SSL_AD_UNRECOGNIZED_NAME:
    return "the server knows no host of that name";
  default:
    return NULL;
  }
}

/* Returns the text for an error of OpenSSL's queue. */
static const char *error_words(unsigned long error, int established) {
  int reason = ERR_GET_REASON(error);
  const char *words = NULL;
  if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
    if (reason >= SSL_AD_REASON_OFFSET)
      words = alert_words(reason - SSL_AD_REASON_OFFSET, established);
    else if (reason == SSL_R_UNSUPPORTED_PROTOCOL)
      words = alert_words(SSL_AD_PROTOCOL_VERSION, established);
  }
  if (!words && reason == ERR_R_MALLOC_FAILURE)
    words = "not enough memory";
  if (!words && error)
    words = ERR_reason_error_string(error);
  return words ? words : "OpenSSL gives no reason";
}

/* Context -------------------------------------------------------------------------------------- */

/* Returns -1, with the text in `why`: "tls.ca '/some/path': the fault". */
static int refuse_file(char *why, const char *option, const char *path, const char *wrong) {
  snprintf(why, REDIO_TLS_WHY, "%s '%.160s': %s", option, path, wrong);
  make_printable(why);
  return -1;
}

static int check_readable(const char *option, const char *path, char *why) {
  FILE *file = fopen(path, "rb");
  if (!file)
    return refuse_file(why, option, path, strerror(errno));
  fclose(file);
  return 0;
}

/* Returns 1 for a directory. OpenSSL accepts any name as one, even of nothing at all. */
static int is_directory(const char *path) {
  char inside[FILENAME_MAX];
  FILE *file;
  int length = snprintf(inside, sizeof inside, "%s/.", path);
  if (length < 0 || (size_t)length >= sizeof inside)
    return 0;
  file = fopen(inside, "rb");
  if (!file)
    return 0;
  fclose(file);
  return 1;
}

static int load_authorities(SSL_CTX *ctx, const char *path, char *why) {
  int directory;
  if (!path) {
    if (SSL_CTX_set_default_verify_paths(ctx))
      return 0;
    snprintf(why, REDIO_TLS_WHY, "the system's certificate authorities cannot be read");
    return -1;
  }
  if (check_readable("tls.ca", path, why))
    return -1;
  directory = is_directory(path);
  if (SSL_CTX_load_verify_locations(ctx, directory ? NULL : path, directory ? path : NULL))
    return 0;
  return refuse_file(why, "tls.ca", path, "no certificates in PEM form in it");
}

/* Replaces OpenSSL's callback, which asks the terminal for the password. */
static int note_password(char *to, int size, int writing, void *asked) {
  (void)to;
  (void)size;
  (void)writing;
  if (asked)
    *(int *)asked = 1;
  return -1;
}

static int load_key(SSL_CTX *ctx, const char *path, const char *option, char *why) {
  int asked = 0, loaded;
  if (check_readable(option, path, why))
    return -1;
  SSL_CTX_set_default_passwd_cb(ctx, note_password);
  SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
  loaded = SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) == 1;
  SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
  if (asked)
    return refuse_file(why, option, path,
                       "the key is encrypted; redio takes only keys that are not");
  if (loaded && SSL_CTX_check_private_key(ctx) == 1)
    return 0;
  if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
    return refuse_file(why, option, path, "not the key of tls.cert");
  return refuse_file(why, option, path, "no private key in PEM form in it");
}

static int load_certificate(SSL_CTX *ctx, const redio_tls_settings *settings, char *why) {
  const char *cert = settings->cert, *key = settings->key;
  if (!cert)
    return 0;
  if (check_readable("tls.cert", cert, why))
    return -1;
  if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
    return refuse_file(why, "tls.cert", cert, "no certificate in PEM form in it, or a weak one");
  return load_key(ctx, key ? key : cert, key ? "tls.key" : "tls.cert", why);
}

static int set_up(SSL_CTX *ctx, const redio_tls_settings *settings, char *why) {
  int version = settings->only_tls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  if (!SSL_CTX_set_min_proto_version(ctx, version)) {
    snprintf(why, REDIO_TLS_WHY, "OpenSSL here has no TLS %s",
             settings->only_tls13 ? "1.3" : "1.2");
    return -1;
  }
  /* TLS 1.2 may renegotiate: the peer's request is refused, and the session goes on unchanged. */
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_verify(ctx, settings->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
  if (settings->verify && load_authorities(ctx, settings->ca, why))
    return -1;
  return load_certificate(ctx, settings, why);
}

int redio_tls_context_init(redio_tls_context *c, const redio_tls_settings *settings, char *why) {
  ERR_clear_error();
  c->ctx = SSL_CTX_new(TLS_client_method());
  if (!c->ctx) {
    snprintf(why, REDIO_TLS_WHY, "%s", error_words(ERR_peek_error(), 0));
    ERR_clear_error();
    return -1;
  }
  if (set_up(c->ctx, settings, why)) {
    redio_tls_context_free(c);
    ERR_clear_error();
    return -1;
  }
  ERR_clear_error();
  return 0;
}

void redio_tls_context_free(redio_tls_context *c) {
  SSL_CTX_free(c->ctx);
  c->ctx = NULL;
}

/* Engine --------------------------------------------------------------------------------------- */

static redio_tls_status die(redio_tls *t, const char *why) {
  const char *when = t->established ? "TLS failed" : "TLS handshake failed";
  t->dead = 1;
  snprintf(t->why, sizeof t->why, "%s: %s", when, why);
  make_printable(t->why);
  return REDIO_TLS_DEAD;
}

static redio_tls_status die_unverified(redio_tls *t, long result) {
  char why[REDIO_TLS_WHY];
  const char *before = "the server's certificate is not accepted:";
  if (result == X509_V_ERR_HOSTNAME_MISMATCH)
    snprintf(why, sizeof why, "%s host name mismatch, it is not for '%.200s'", before, t->name);
  else if (result == X509_V_ERR_IP_ADDRESS_MISMATCH)
    snprintf(why, sizeof why, "%s IP address mismatch, it is not for %.200s", before, t->name);
  else
    snprintf(why, sizeof why, "%s %s", before, verify_words(result));
  return die(t, why);
}

/* A peer that speaks TLS answers with a handshake record or an alert. */
static int is_no_tls(const redio_tls *t) {
  return !t->established && t->heard && t->first_byte != 22 && t->first_byte != 21;
}

static redio_tls_status die_by_queue(redio_tls *t) {
  unsigned long error = ERR_peek_error();
  if (is_no_tls(t))
    return die(t, "the server does not speak TLS (a plain port?)");
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
    return die_unverified(t, SSL_get_verify_result(t->ssl));
  return die(t, error_words(error, t->established));
}

/* Returns the status for the result of a call to OpenSSL. */
static redio_tls_status outcome(redio_tls *t, int result) {
  redio_tls_status status;
  if (result > 0)
    return REDIO_TLS_OK;
  switch (SSL_get_error(t->ssl, result)) {
  case SSL_ERROR_WANT_READ:
    return REDIO_TLS_NEED_MORE;
  case SSL_ERROR_ZERO_RETURN:
    return REDIO_TLS_ENDED;
  default:
    status = die_by_queue(t);
    ERR_clear_error();
    return status;
  }
}

/* Returns 1 when the name can only be an IP address. OpenSSL 1.1.1 takes 1.2.3.4.example.com for
 * one. */
static int looks_like_ip(const char *name) {
  return strchr(name, ':') || !name[strspn(name, "0123456789.")];
}

/* Stores the name without the zone of an IPv6 address and without the dot at the end of a full
 * name: certificates have neither. Returns 0, or -1. A dot in front is refused: OpenSSL would
 * accept every name below the domain. */
static int keep_name(redio_tls *t, const char *name) {
  size_t length = strchr(name, ':') ? strcspn(name, "%") : strlen(name);
  if (length && name[length - 1] == '.')
    length--;
  if (!length || length >= sizeof t->name || *name == '.')
    return -1;
  memcpy(t->name, name, length);
  t->name[length] = '\0';
  return 0;
}

enum { NAME_FLAGS = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS };

/* Checks the name a second time: OpenSSL 3.0 verifies without it when memory for the copy is
 * out. */
static redio_tls_status check_name(redio_tls *t) {
  int matches;
  X509 *cert;
  if (SSL_get_verify_mode(t->ssl) == SSL_VERIFY_NONE)
    return REDIO_TLS_OK;
  cert = SSL_get_peer_certificate(t->ssl);
  matches = cert && (t->by_address ? X509_check_ip_asc(cert, t->name, 0)
                                   : X509_check_host(cert, t->name, 0, NAME_FLAGS, NULL)) == 1;
  X509_free(cert);
  ERR_clear_error();
  if (matches)
    return REDIO_TLS_OK;
  return die_unverified(t, t->by_address ? X509_V_ERR_IP_ADDRESS_MISMATCH
                                         : X509_V_ERR_HOSTNAME_MISMATCH);
}

static int set_name(redio_tls *t, const char *name) {
  X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
  if (!name) {
    if (SSL_get_verify_mode(t->ssl) == SSL_VERIFY_NONE)
      return 0;
    die(t, "there is no name to look for on the server's certificate (tls.server_name)");
    return -1;
  }
  if (keep_name(t, name)) {
    die(t, "the name to look for on the server's certificate is none (tls.server_name)");
    return -1;
  }
  X509_VERIFY_PARAM_set_hostflags(param, NAME_FLAGS);
  t->by_address = looks_like_ip(t->name) && X509_VERIFY_PARAM_set1_ip_asc(param, t->name);
  if (t->by_address)
    return 0; /* and SNI is for names only: RFC 6066, 3 */
  if (X509_VERIFY_PARAM_set1_host(param, t->name, 0) && SSL_set_tlsext_host_name(t->ssl, t->name))
    return 0;
  die(t, "not enough memory");
  return -1;
}

static int set_up_engine(redio_tls *t, const redio_tls_context *c, const char *name) {
  if (!c->ctx) {
    die(t, "its context is closed");
    return -1;
  }
  t->ssl = SSL_new(c->ctx);
  t->in = BIO_new(BIO_s_mem());
  t->out = BIO_new(BIO_s_mem());
  if (!t->ssl || !t->in || !t->out) {
    BIO_free(t->in);
    BIO_free(t->out);
    die(t, "not enough memory");
    return -1;
  }
  BIO_set_mem_eof_return(t->in, -1); /* empty is not the end */
  SSL_set_bio(t->ssl, t->in, t->out);
  SSL_set_connect_state(t->ssl);
  return set_name(t, name);
}

int redio_tls_init(redio_tls *t, const redio_tls_context *c, const char *name) {
  int result;
  memset(t, 0, sizeof *t);
  /* for a caller that sets `dead` itself */
  snprintf(t->why, sizeof t->why, "TLS failed: not enough memory");
  ERR_clear_error();
  result = set_up_engine(t, c, name);
  ERR_clear_error();
  if (result) {
    SSL_free(t->ssl);
    t->ssl = NULL;
  }
  return result;
}

void redio_tls_free(redio_tls *t) {
  SSL_free(t->ssl); /* and its BIOs */
  t->ssl = NULL;
  t->in = t->out = NULL;
  if (!t->dead)
    die(t, "closed");
}

redio_tls_status redio_tls_feed(redio_tls *t, const char *bytes, size_t n) {
  if (t->dead || !t->ssl)
    return REDIO_TLS_DEAD;
  if (n && !t->heard) {
    t->heard = 1;
    t->first_byte = (unsigned char)*bytes;
  }
  while (n) {
    int part = n > INT_MAX ? INT_MAX : (int)n;
    if (BIO_write(t->in, bytes, part) != part) {
      ERR_clear_error();
      return die(t, "not enough memory");
    }
    bytes += part;
    n -= (size_t)part;
  }
  return REDIO_TLS_OK;
}

redio_tls_status redio_tls_handshake(redio_tls *t) {
  redio_tls_status status;
  if (t->dead || !t->ssl)
    return REDIO_TLS_DEAD;
  if (t->established)
    return REDIO_TLS_OK;
  ERR_clear_error();
  status = outcome(t, SSL_do_handshake(t->ssl));
  if (status == REDIO_TLS_ENDED)
    return die(t, "the server closed the connection");
  if (status == REDIO_TLS_OK)
    status = check_name(t);
  t->established = status == REDIO_TLS_OK;
  return status;
}

redio_tls_status redio_tls_read(redio_tls *t, char *to, size_t room, size_t *got) {
  redio_tls_status status = REDIO_TLS_OK;
  *got = 0;
  if (t->dead || !t->ssl)
    return REDIO_TLS_DEAD;
  if (!t->established)
    return REDIO_TLS_NEED_MORE;
  ERR_clear_error();
  while (status == REDIO_TLS_OK && *got < room) {
    size_t n = 0;
    status = outcome(t, SSL_read_ex(t->ssl, to + *got, room - *got, &n));
    *got += n;
  }
  /* Plaintext before an end or a fault comes first. The next call returns the end or the fault. */
  return *got ? REDIO_TLS_OK : status;
}

redio_tls_status redio_tls_write(redio_tls *t, const char *bytes, size_t n) {
  if (t->dead || !t->ssl)
    return REDIO_TLS_DEAD;
  if (!t->established)
    return REDIO_TLS_NEED_MORE;
  ERR_clear_error();
  while (n) {
    size_t done = 0;
    redio_tls_status status = outcome(t, SSL_write_ex(t->ssl, bytes, n, &done));
    if (status != REDIO_TLS_OK) /* a memory BIO never blocks, so this is a fault */
      return t->dead ? REDIO_TLS_DEAD : die(t, "OpenSSL takes no more");
    bytes += done;
    n -= done;
  }
  return REDIO_TLS_OK;
}

size_t redio_tls_output(redio_tls *t, char *to, size_t room) {
  int n;
  if (!t->ssl || !BIO_ctrl_pending(t->out))
    return 0;
  n = BIO_read(t->out, to, room > INT_MAX ? INT_MAX : (int)room);
  return n > 0 ? (size_t)n : 0;
}

redio_tls_status redio_tls_end(redio_tls *t) {
  if (t->dead || !t->ssl)
    return REDIO_TLS_DEAD;
  if (is_no_tls(t))
    return die(t, "the server does not speak TLS (a plain port?)");
  if (!t->established)
    return die(t, "the server closed the connection");
  if (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN)
    return REDIO_TLS_ENDED;
  t->dead = 1;
  snprintf(t->why, sizeof t->why, "TLS stream cut short (no close_notify)");
  return REDIO_TLS_DEAD;
}

void redio_tls_shutdown(redio_tls *t) {
  if (t->dead || !t->ssl || !t->established)
    return;
  ERR_clear_error();
  SSL_shutdown(t->ssl);
  ERR_clear_error();
}

const char *redio_tls_version(const redio_tls *t) {
  return t->ssl && t->established ? SSL_get_version(t->ssl) : NULL;
}

const char *redio_tls_cipher(const redio_tls *t) {
  return t->ssl && t->established ? SSL_get_cipher_name(t->ssl) : NULL;
}
