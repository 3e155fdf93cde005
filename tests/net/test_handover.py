"""Continuing the transfers of a process that has ended: packets, replies, and one TransferEnded for each transfer."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from tftpserver import Direct, numbered

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.events import TransferBegun, TransferEnded
from bootfw.net.tftp.handover import ADOPTION_TIMEOUT, AdoptedTransfer
from bootfw.values import Agreed, Mode, Outcome, TransferRequest
from bootfw.wire import tftp

CONTENT = numbered(5000)
CHANGED = "The file has changed meanwhile, start again"
AGREED = Agreed(1000, acknowledged=(("blksize", "1000"),))
REQUEST = TransferRequest("file", "file", Direct.PEER, "10.0.0.1", options=(("blksize", "1000"),))


@pytest.fixture
def direct(tmp_path: Path) -> Direct:
    """A server that has just started, with the file, which is older than any transfer."""
    (tmp_path / "file").write_bytes(CONTENT)
    direct = Direct(DirectoryBackend(tmp_path))
    direct.clock.advance(time.time() + 60)
    return direct


def adopted(direct: Direct, position: int = 0, **changed: Any) -> AdoptedTransfer:
    return AdoptedTransfer(TransferBegun(direct.clock.seconds() - 1, REQUEST, evolve(AGREED, **changed)), position)


def outcomes(direct: Direct) -> list[tuple[Outcome, str]]:
    return [(e.report.outcome, e.report.detail) for e in direct.events if isinstance(e, TransferEnded)]


def data(block: int) -> bytes:
    return tftp.data(block, CONTENT[(block - 1) * 1000 : block * 1000])


def test_resumed_transfer_continues_to_its_end(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    assert direct.take() == []
    assert direct.send(tftp.ack(2)) == [data(3)]
    assert direct.send(tftp.ack(3)) == [data(4)]
    assert direct.send(tftp.ack(4)) == [data(5)]
    assert direct.send(tftp.ack(5)) == [tftp.data(6, b"")]
    assert direct.send(tftp.ack(6)) == []
    (ended,) = [event for event in direct.events if isinstance(event, TransferEnded)]
    assert (ended.report.outcome, ended.report.bytes_transferred) == (Outcome.COMPLETE, 5000)
    assert ended.report.began == pytest.approx(ended.at - 1)
    # The ended process has reported the beginning.
    assert not [event for event in direct.events if isinstance(event, TransferBegun)]


def test_ack_of_an_oack_resumes_at_the_first_block(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.ack(0)) == [data(1)]


def test_ack_of_the_last_block_completes_the_transfer(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.ack(6)) == []
    assert outcomes(direct) == [(Outcome.COMPLETE, "")]
    assert direct.protocol.transfers == 0


def test_transfer_with_windows_is_resumed_with_a_new_proof(direct: Direct) -> None:
    """Its client has to prove again that our packets reach it: the ACK that resumes the transfer may be forged."""
    direct.protocol.take_over([adopted(direct, windowsize=3)])
    block, marker = direct.send(tftp.ack(1))
    assert block == data(2)
    assert (len(marker), marker[:2]) == (4, b"\0\3")
    last_block, rounds = 2, 0
    while last_block < 6:
        rounds += 1
        for packet in direct.send(tftp.ack(last_block)):
            if packet[2:4] == (last_block + 1).to_bytes(2, "big"):
                last_block += 1
    assert rounds <= 4
    assert direct.send(tftp.ack(6)) == []
    assert outcomes(direct) == [(Outcome.COMPLETE, "")]


@pytest.mark.parametrize("windowsize", [1, 3])
def test_a_forged_ack_gets_three_blocks_at_most(direct: Direct, windowsize: int) -> None:
    direct.protocol.take_over([adopted(direct, windowsize=windowsize)])
    sent = direct.send(tftp.ack(1))
    for _ in range(100):
        direct.clock.advance(1)
        sent += direct.take()
    assert sent.count(data(2)) in (1, 3)
    assert sum(map(len, sent)) <= 3 * 1004 + 100
    assert direct.protocol.transfers == 0


def test_blocks_in_flight_are_retransmitted(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    direct.send(tftp.ack(2))
    direct.clock.advance(1.01)
    assert direct.take() == [data(3)]


@given(st.integers(0, 10_000_000), st.integers(0, 65535))
def test_position_resolves_a_wire_number_to_its_block(position: int, ahead: int) -> None:
    transfer = AdoptedTransfer(TransferBegun(0.0, REQUEST, AGREED), position)
    assert transfer.block((position + ahead) & 0xFFFF) == position + ahead


def test_restarted_client_begins_a_new_transfer(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.request(False, "file", "octet")) == [tftp.data(1, CONTENT[:512])]
    assert outcomes(direct) == [(Outcome.FAILED, "the client started again")]


def test_error_of_the_client_ends_an_adopted_transfer(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.error(0, "bye")) == []
    assert outcomes(direct) == [(Outcome.FAILED, "its worker ended, and then the client")]
    assert direct.send(tftp.ack(2)) == []


def test_adopted_transfer_times_out_without_a_packet(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    direct.clock.advance(ADOPTION_TIMEOUT - 1)
    assert outcomes(direct) == []
    direct.clock.advance(1)
    assert outcomes(direct) == [(Outcome.FAILED, "its worker ended, and the client was not heard again")]
    assert direct.send(tftp.ack(2)) == []


def test_stopping_ends_adopted_transfers(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct)])
    direct.protocol.close()
    assert outcomes(direct) == [(Outcome.FAILED, "the server is stopping")]
    assert direct.clock.getDelayedCalls() == []


@pytest.mark.parametrize("changed", [{"write": True}, {"mode": Mode.NETASCII}])
def test_uploads_and_netascii_transfers_are_not_continued(direct: Direct, changed: dict[str, Any]) -> None:
    """The new process does not know how much of an upload was stored, or where in a translated file a block begins."""
    begun = TransferBegun(direct.clock.seconds(), evolve(REQUEST, **changed), AGREED)
    direct.protocol.take_over([AdoptedTransfer(begun, 0)])
    assert outcomes(direct) == [(Outcome.FAILED, "its worker ended")]
    refusal = tftp.error(0, "the process that served this has ended, start again")
    for packet in (tftp.data(2, bytes(512)), tftp.ack(2)):
        assert direct.send(tftp.error(0, "bye")) == []
        assert direct.send(packet) == [refusal]
        assert direct.send(packet) == []
        direct.protocol.take_over([AdoptedTransfer(begun, 0)])
    direct.clock.advance(ADOPTION_TIMEOUT)
    assert direct.send(tftp.ack(2)) == []
    assert direct.clock.getDelayedCalls() == []


def replace_by_rsync(path: Path) -> None:
    """Write the file now, with an old time of modification."""
    path.write_bytes(CONTENT)
    os.utime(path, (0, 0))  # as rsync --times does


def test_changed_file_ends_an_adopted_transfer(direct: Direct, tmp_path: Path) -> None:
    begun = TransferBegun(time.time() - 5, REQUEST, AGREED)
    replace_by_rsync(tmp_path / "file")
    direct.protocol.take_over([AdoptedTransfer(begun, 0)])
    assert direct.send(tftp.ack(2)) == [tftp.error(0, CHANGED)]
    assert outcomes(direct) == [(Outcome.FAILED, CHANGED)]


def test_file_of_another_size_ends_an_adopted_transfer(direct: Direct) -> None:
    direct.protocol.take_over([adopted(direct, tsize=4000)])
    assert direct.send(tftp.ack(2)) == [tftp.error(0, CHANGED)]
    assert outcomes(direct) == [(Outcome.FAILED, CHANGED)]


def test_unknown_change_time_ends_an_adopted_transfer() -> None:
    direct = Direct(MemoryBackend({"file": CONTENT}))
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.ack(2)) == [tftp.error(0, CHANGED)]
    assert outcomes(direct) == [(Outcome.FAILED, CHANGED)]


def test_missing_file_ends_an_adopted_transfer(direct: Direct, tmp_path: Path) -> None:
    (tmp_path / "file").unlink()
    direct.protocol.take_over([adopted(direct)])
    assert direct.send(tftp.ack(2)) == [tftp.error(1, "File not found")]
    assert outcomes(direct) == [(Outcome.FAILED, "File not found")]


def test_adopted_transfer_of_a_file_that_was_found_in_another_directory_continues(
    direct: Direct, tmp_path: Path
) -> None:
    """GRUB requests its menu from the wrong directory."""
    (tmp_path / "grub").mkdir()
    (tmp_path / "file").rename(tmp_path / "grub/grub.cfg")
    request = evolve(REQUEST, filename="/grub.cfg", path="grub.cfg", options=(("blksize", "1024"), ("tsize", "0")))
    direct.protocol.take_over([AdoptedTransfer(TransferBegun(direct.clock.seconds() - 1, request, AGREED), 0)])
    assert direct.send(tftp.ack(5)) == [tftp.data(6, b"")]
    assert direct.send(tftp.ack(6)) == []
    (ended,) = [event for event in direct.events if isinstance(event, TransferEnded)]
    assert (ended.report.outcome, ended.report.persona) == (Outcome.COMPLETE, "grub")


def test_packets_of_unknown_clients_are_not_adopted(direct: Direct) -> None:
    direct.protocol.take_over(
        [AdoptedTransfer(TransferBegun(0.0, evolve(REQUEST, peer=("10.0.0.8", 2000)), AGREED), 0)]
    )
    assert direct.send(tftp.ack(2)) == []
    assert direct.protocol.transfers == 0


def test_positions_are_reported_when_numbers_repeat(direct: Direct, tmp_path: Path) -> None:
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(1000 * 300_000)
    direct.protocol.take_over([adopted(direct, position=65536 * 3)])
    assert direct.send(tftp.ack(2)) == [tftp.data(3, bytes(1000))]
    assert direct.protocol.positions() == [(Direct.PEER, 65536 * 3 + 2)]
