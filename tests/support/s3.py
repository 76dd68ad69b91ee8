"""A bucket of an S3 server of our own (moto), on this machine, gone afterwards."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Its URL; the environment names the server while the block runs. Skipped without moto."""
    pytest.importorskip("s3fs", reason="needs s3fs: make test-ray")
    server_of = pytest.importorskip("moto.server", reason="needs moto: make test-ray")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environ = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with mock.patch.dict(os.environ, environ):
            import s3fs

            s3fs.S3FileSystem.clear_instance_cache()  # one made before knows another server
            name = f"tft-{uuid.uuid4().hex}"  # moto's buckets outlive its servers
            s3fs.S3FileSystem().mkdir(name)
            yield f"s3://{name}"
    finally:
        server.stop()
