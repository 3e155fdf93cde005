"""Where replies go."""

import firmware
import pytest

from bootfw.dhcp.routing import destination

BROADCAST = "255.255.255.255"


@pytest.mark.parametrize("client", firmware.BOOT_CLIENTS, ids=lambda client: client.name)
def test_an_offer_is_for_everybody_whatever_the_flag_says(client):
    assert destination(client.message(), ("0.0.0.0", 68)) == (BROADCAST, 68)


def test_an_offer_to_a_client_that_has_an_address_of_old():
    message = firmware.IPXE_ROM.message(ciaddr="10.0.0.9")

    assert destination(message, ("10.0.0.9", 68)) == (BROADCAST, 68)


def test_a_relay_gets_it_on_the_servers_port():
    message = firmware.OVMF.message(giaddr="10.1.0.254")

    assert destination(message, ("10.1.0.253", 1067)) == ("10.1.0.254", 67)


def test_a_relay_that_asked_for_its_own_port_gets_it_there():
    """RFC 8357."""
    message = firmware.OVMF.changed({82: bytes((1, 1)) + b"x" + bytes((19, 0))}).message(giaddr="10.1.0.254")

    assert destination(message, ("10.1.0.254", 40067)) == ("10.1.0.254", 40067)


def test_malformed_relay_information_asks_for_no_port():
    message = firmware.OVMF.changed({82: bytes((19, 5))}).message(giaddr="10.1.0.254")

    assert destination(message, ("10.1.0.254", 40067)) == ("10.1.0.254", 67)


@pytest.mark.parametrize("port", [4011, 68, 40000])
def test_the_boot_server_answers_where_it_was_asked_from(port):
    """EDK2: 4011 to 4011; iPXE: from 68."""
    message = firmware.asks_boot_server(firmware.OVMF)

    assert destination(message, ("10.0.0.9", port), boot_server=True) == ("10.0.0.9", port)


def test_the_boot_server_believes_the_source_more_than_ciaddr():
    message = firmware.asks_boot_server(firmware.OVMF, ciaddr="192.168.1.1")

    assert destination(message, ("10.0.0.9", 4011), boot_server=True) == ("10.0.0.9", 4011)


def test_without_a_source_ciaddr_has_to_do():
    message = firmware.asks_boot_server(firmware.OVMF)

    assert destination(message, ("0.0.0.0", 4011), boot_server=True) == ("10.0.0.9", 4011)


def test_without_any_address_everybody_hears_it():
    message = firmware.asks_boot_server(firmware.OVMF, ciaddr="0.0.0.0")

    assert destination(message, ("0.0.0.0", 4011), boot_server=True) == (BROADCAST, 68)


def test_ports_that_are_not_the_usual_ones():
    relayed = firmware.OVMF.message(giaddr="10.1.0.254")

    assert destination(firmware.OVMF.message(), ("0.0.0.0", 68), client_port=10068) == (BROADCAST, 10068)
    assert destination(relayed, ("10.1.0.254", 67), server_port=10067) == ("10.1.0.254", 10067)
