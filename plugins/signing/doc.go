// Package signing signs MAR archives with keys that are somewhere else: in a file, a token, an HSM, a cloud's
// key service. A signing plugin is a process that holds the keys or knows who does; all it ever sees is a
// digest.
//
// For authors of plugins: implement Backend (or fill a Keyring with crypto.Signers) and call Serve. The
// tutorial is plugins/README.md, the wire contract plugins/PROTOCOL.md, the conformance kit
// signing/signingtest.
//
// For programs that sign: Start gives a Client, Client.Signer a mar.Signer for one key, and Authority does the
// rest of what signing takes:
//
//	archive ──► policy: may this key sign this MAR channel?        (Policy: data, everything else is refused)
//	            which key of each place is valid now?              (KeyRef: rotation)
//	            reserve space, hash                                (mar)
//	            journal: what will be asked                        (Journal)
//	            ask the plugin: digest ──► signature
//	            size, and verification with the configured key     (never the key that the plugin names)
//	            journal: what came of it
//	            write; before the first byte all signatures hold
//
// Archives know only RSA with PKCS #1 v1.5. Its signatures are a function of the digest, which is why a request may be
// repeated after a failure. Beside it there is ECDSA on P-384, for the header Content-Signature of update servers
// (Client.ContentSigner); its signatures may be others each time, and none of them does harm.
package signing
