#!/usr/bin/python3
"""A signing plugin in Python, written from plugins/PROTOCOL.md.

    signer.py ID=KEY...

Each KEY is a file with an RSA private key in PEM; openssl makes the signatures. It needs Python's grpc and
protobuf (Debian: python3-grpcio, python3-protobuf), the openssl command, and the module signing_pb2, made by

    protoc --python_out=DIRECTORY -I plugins/internal/signingpb signing.proto

with DIRECTORY in PYTHONPATH. The numbers in the comments are sections of PROTOCOL.md.
"""

import base64
import os
import subprocess
import sys
import threading
from concurrent import futures

if os.environ.get("SENBONZAKURA_PLUGIN") != "signing":  # 2.1
    sys.exit("This program is a signing plugin of Senbonzakura: it is started by the program that uses it.")

import grpc
import signing_pb2 as pb

# 4: reasons and the codes that go with them
INVALID = ("INVALID", grpc.StatusCode.INVALID_ARGUMENT)
NOT_FOUND = ("NOT_FOUND", grpc.StatusCode.NOT_FOUND)
UNSUPPORTED = ("UNSUPPORTED", grpc.StatusCode.UNIMPLEMENTED)
INTERNAL = ("INTERNAL", grpc.StatusCode.INTERNAL)

DIGEST_SIZES = {1: 20, 2: 48}  # 5.3


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True, timeout=20).stdout


def refuse(context, reason, text):
    name, code = reason
    context.set_trailing_metadata((("senbonzakura-reason", name),))
    context.abort(code, text)


class Signing:
    """The service of section 5."""

    def __init__(self, files):
        self.files = files
        self.keys = []
        for key_id, path in files.items():
            der = openssl("pkey", "-in", path, "-pubout", "-outform", "DER")
            modulus = openssl("rsa", "-in", path, "-noout", "-modulus").decode().strip().split("=")[1]
            self.keys.append(
                pb.Key(id=key_id, algorithm=2, signature_size=len(modulus) // 2, public_key=der))

    def info(self, request, context):
        return pb.InfoResponse(name="signer-python", version="1.0")

    def list_keys(self, request, context):
        return pb.KeysResponse(keys=self.keys)

    def sign(self, request, context):
        size = DIGEST_SIZES.get(request.algorithm)
        if size is None:
            refuse(context, UNSUPPORTED, f"algorithm {request.algorithm}")
        if len(request.digest) != size:
            refuse(context, INVALID, f"digest of {len(request.digest)} bytes")
        if request.key_id not in self.files:
            refuse(context, NOT_FOUND, "no such key")
        if request.algorithm != 2:
            refuse(context, UNSUPPORTED, "the key signs with SHA-384")
        try:
            signature = openssl("pkeyutl", "-sign", "-inkey", self.files[request.key_id],
                                "-pkeyopt", "digest:sha384", data=request.digest)
        except (subprocess.SubprocessError, OSError) as err:
            print(f"openssl: {err}", file=sys.stderr, flush=True)
            refuse(context, INTERNAL, "openssl failed")
        return pb.SignResponse(signature=signature)


def unary(method, request_type):
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request_type.FromString, response_serializer=lambda m: m.SerializeToString())


def main():
    files = dict(arg.split("=", 1) for arg in sys.argv[1:])
    if not files:
        sys.exit("usage: signer.py ID=KEY...")
    service = Signing(files)
    directory = os.environ["PLUGIN_UNIX_SOCKET_DIR"]

    # 2.3: a key and a certificate for this start
    key_file = os.path.join(directory, "tls.key")
    certificate = openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key_file,
        "-days", "3650", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-addext", "extendedKeyUsage=serverAuth,clientAuth")
    with open(key_file, "rb") as f:
        key = f.read()
    os.remove(key_file)
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(), require_client_auth=True)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("senbonzakura.signing.v1.Signing", {
            "Info": unary(service.info, pb.InfoRequest),
            "Keys": unary(service.list_keys, pb.KeysRequest),
            "Sign": unary(service.sign, pb.SignRequest),
        }),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {  # 2.4
            "Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01"),
        }),
    ))
    socket = os.path.join(directory, "s")
    server.add_secure_port("unix:" + socket, credentials)
    server.start()

    der = base64.b64encode(base64.b64decode("".join(certificate.decode().split("-----")[2].split()))).decode()
    print(f"1|1|unix|{socket}|grpc|{der.rstrip('=')}", flush=True)  # 2.2

    sys.stdin.buffer.read()  # 2.5: the host is gone, or wants us to go
    threading.Timer(0.7, lambda: os._exit(0)).start()
    server.stop(0.5).wait()
    os._exit(0)


main()
