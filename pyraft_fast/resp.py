"""pyraft's module path for RESP; see pyraft_fast.protocol.resp."""

from __future__ import annotations

from pyraft_fast.protocol.resp import resp_decoding, resp_encoding, resp_io

__all__ = ["resp_decoding", "resp_encoding", "resp_io"]
