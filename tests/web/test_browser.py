"""The page in a real browser: live, at phone width, by keyboard, with 10,000 boots; axe-core finds nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from . import recorded
from .browsing import COLOR_RULES, ShowingProcess, Tab

pytestmark = [pytest.mark.interop, pytest.mark.together]

StartServer = Callable[[str], ShowingProcess]
OpenTab = Callable[..., Tab]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}

MACHINE = "#/machine/52:54:00:00:00:0e"

VIEWS = ("#/boots", MACHINE, "#/machines", "#/leases", "#/server")

PICTURES = Path(__file__).parents[2] / "docs/pictures"


def test_nothing_has_booted_yet(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("empty"))
    tab.page.get_by_text("No machine has booted yet").wait_for()
    tab.page.get_by_role("img", name="no file was sent").wait_for()
    tab.open_view("#/leases")
    tab.page.get_by_text("No client has been given an address yet").wait_for()
    tab.open_view("#/machine/52:54:00:00:00:01")
    tab.page.get_by_text("No boot of this machine is known").wait_for()


def test_machines_are_listed_and_searched(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"), "#/machines")
    tab.row(recorded.mac_of(14)).wait_for()
    tab.page.get_by_role("searchbox").fill(recorded.mac_of(14))
    tab.page.get_by_text("1 machine", exact=True).wait_for()
    tab.row(recorded.mac_of(14)).get_by_role("link").click()
    tab.page.get_by_role("heading", name=recorded.mac_of(14)).wait_for()


def test_boots_appear_as_they_happen(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    tab = open_tab(server)
    tab.row(recorded.mac_of(60)).wait_for()
    server.send_command("begin 300 2")
    tab.row(recorded.mac_of(300)).filter(has_text="In progress").wait_for()
    first = tab.page.get_by_role("row").nth(1).inner_text()
    assert recorded.mac_of(300) in first or recorded.mac_of(301) in first, "the newest is on top"
    server.send_command("finish 300 2")
    tab.row(recorded.mac_of(301)).filter(has_text="Booted").wait_for()
    tab.page.get_by_role("button", name="Pause").click()
    server.send_command("begin 400 1")
    tab.page.wait_for_timeout(1500)
    assert not tab.row(recorded.mac_of(400)).count(), "the list rests"
    tab.page.get_by_role("button", name="Resume").click()
    tab.row(recorded.mac_of(400)).wait_for()


def test_page_follows_a_booting_machine(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    tab = open_tab(server, f"#/machine/{recorded.mac_of(500)}")
    server.send_command("begin 500 1")
    tab.page.locator(".cause").filter(has_text="In progress").wait_for()
    server.send_command("finish 500 1")
    tab.page.locator(".cause").filter(has_text="Booted").wait_for()
    assert tab.page.get_by_role("img", name="Timeline of a boot").count() == 1


def test_why_machines_fail(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("failing"))
    tab.row("never acknowledged").first.wait_for()
    tab.page.get_by_label("Verdict").select_option("failed")
    tab.row("Booted").first.wait_for(state="detached")
    tab.page.get_by_label("MAC of a machine").fill("00:0E")
    tab.row("00:00:0d").wait_for(state="detached")
    tab.page.get_by_role("link", name="52:54:00:00:00:0e").click()
    tab.page.get_by_role("heading", name="52:54:00:00:00:0e").wait_for()
    tab.page.get_by_text("Put the file there, or correct its name").wait_for()
    picture = tab.page.get_by_role("img", name="Timeline of a boot")
    assert recorded.MISSING.sentence in (picture.get_attribute("aria-label") or "")
    assert "2 retries" in (picture.get_attribute("aria-label") or "")
    assert picture.locator("text", has_text="×3").count() == 1
    refused = tab.page.get_by_role("row").filter(has=tab.page.get_by_role("rowheader", name="vmlinuz-6.1"))
    assert "there is “vmlinuz-6.12”, “vmlinuz-6.6”" in refused.inner_text()
    decisions = tab.page.get_by_role("table", name="What each resolver decided")
    assert decisions.get_by_role("row").nth(2).inner_text().split("\t")[:2] == [
        "by-architecture",
        "Decided on “snponly.efi” in under 1 ms",
    ]


def test_page_shows_pending_sockets(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("waiting")
    tab = open_tab(server)
    tab.page.get_by_role("link", name="Not ready: 1 socket").click()
    tab.page.get_by_text("TFTP on 0.0.0.0: no interface eth99").wait_for()
    row = tab.row("eth99")
    assert "Waiting" in row.inner_text()
    server.send_command("appear")
    tab.page.get_by_role("link", name="Ready", exact=True).wait_for()
    row.filter(has_text="Bound").wait_for()


def test_images_that_are_sent_and_uploaded_are_shown(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("empty")
    tab = open_tab(server, "#/server")
    tab.row("TFTP").first.wait_for()
    assert tab.page.get_by_role("heading", name="Uploads").count() == 0
    server.send_command("multicast")
    tab.page.get_by_role("heading", name="Uploads").wait_for()
    assert tab.row("rescue.ndz").inner_text().split("\t") == [
        "rescue.ndz",
        "10.77.0.9",
        "Receiving",
        "3.0 MB of 5.0 MB",
    ]
    assert "11 MB of 22 MB" in tab.row("win11.img").inner_text()
    assert tab.violations() == []


def test_search_without_matches_shows_none(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"))
    tab.page.get_by_label("MAC of a machine").fill("ff:ff")
    tab.page.get_by_text("No boot matches").wait_for()


# Many


def test_ten_thousand_boots(start_server: StartServer, open_tab: OpenTab, capsys: pytest.CaptureFixture[str]) -> None:
    """A page of them at a time, and the browser answers while boots change as fast as they can."""
    server = start_server("many")
    tab = open_tab(server)
    tab.page.evaluate("""() => {
        window.longest = 0;
        new PerformanceObserver((list) => {
            for (const task of list.getEntries()) longest = Math.max(longest, task.duration);
        }).observe({type: 'longtask'});
    }""")
    rows = tab.page.locator("table.boots tbody tr")
    rows.nth(99).wait_for()
    assert rows.count() == 100
    oldest = rows.nth(99).inner_text()
    tab.page.get_by_role("button", name="Older").click()
    tab.page.get_by_text("Page 2").wait_for()
    assert rows.count() == 100
    assert oldest not in rows.all_inner_texts()
    tab.page.get_by_role("button", name="Newer").click()
    tab.row(oldest.split()[0]).first.wait_for()
    server.send_command("flood 3000")
    tab.page.get_by_label("MAC of a machine").fill(recorded.mac_of(77))
    tab.row(recorded.mac_of(77)).first.wait_for()
    tab.page.get_by_label("MAC of a machine").fill("")
    tab.row(recorded.mac_of(20_000 + 499)).first.wait_for()
    assert rows.count() == 100
    longest = tab.page.evaluate("longest")
    with capsys.disabled():
        print(f"\nlongest task of the browser: {longest:.0f} ms")
    # On an idle machine it is a tenth of this.
    assert longest < 5000


def test_screen_readers_are_not_flooded(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    tab = open_tab(server)
    tab.row(recorded.mac_of(60)).wait_for()
    tab.page.evaluate("""() => {
        window.said = [];
        const news = document.getElementById('news');
        new MutationObserver(() => news.textContent && said.push(news.textContent)).observe(news, {childList: true});
    }""")
    server.send_command("flood 400")
    server.send_command("fail 900")
    tab.page.locator("#news", has_text="failed").wait_for(state="attached")
    tab.page.wait_for_timeout(1500)
    announcements = tab.page.evaluate("said")
    assert announcements == [f"401 new boots; {recorded.mac_of(900)} failed: {recorded.MISSING.sentence}."]


# For every user


@pytest.mark.parametrize(
    ("state", "size", "schemes"),
    [
        ("empty", "wide", "light"),
        ("empty", "phone", "dark"),
        ("busy", "wide", "dark"),
        ("busy", "phone", "light"),
        ("failing", "wide", "light dark"),
        ("failing", "phone", "dark light"),
        ("many", "wide", "light dark"),
    ],
)
def test_axe_finds_nothing(shared_server: StartServer, open_tab: OpenTab, state: str, size: str, schemes: str) -> None:
    first_scheme, *other_schemes = schemes.split()
    tab = open_tab(shared_server(state), color_scheme=first_scheme, **(PHONE if size == "phone" else {}))
    # A busy server has the same leases and sockets as a failing one.
    for route in {"many": VIEWS[:1], "busy": VIEWS[:3]}.get(state, VIEWS):
        tab.open_view(route)
        tab.page.locator("h1").wait_for()
        tab.page.locator(".panel:empty").wait_for(state="detached")
        assert tab.violations() == [], route
        assert tab.overflow() <= 0, f"{route} scrolls sideways"
        for scheme in other_schemes:
            tab.page.emulate_media(color_scheme=scheme)
            assert tab.violations(COLOR_RULES) == [], f"{route}, {scheme}"
            tab.page.emulate_media(color_scheme=first_scheme)


def test_a_table_is_one_at_phone_width(shared_server: StartServer, open_tab: OpenTab) -> None:
    """Its rows are laid out as cards there, which would take their roles if they had none of their own."""
    tab = open_tab(shared_server("busy"), **PHONE)
    table = tab.page.get_by_role("table", name="Boots, the newest first")
    table.get_by_role("row").nth(1).wait_for()
    assert table.get_by_role("columnheader").all_inner_texts()[:3] == ["Machine", "Client", "Verdict"]
    row = table.get_by_role("row").nth(1)
    assert row.get_by_role("rowheader").inner_text() == recorded.mac_of(60)
    assert row.get_by_role("cell").count() == 6
    sizes = tab.page.evaluate("""() => [...document.querySelectorAll('a:not(.skip), button, input, select')]
        .filter((each) => each.offsetParent)
        .map((each) => each.getBoundingClientRect())
        .filter((box) => Math.min(box.width, box.height) < 20).length""")
    assert sizes == 0, "too small for a finger"


def test_page_has_landmarks(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"))
    for role in ("banner", "main", "contentinfo"):
        assert tab.page.get_by_role(role).count() == 1, role
    assert tab.page.get_by_role("navigation", name="Views").count() == 1
    assert tab.page.get_by_role("search").count() == 1
    assert tab.page.get_by_role("heading", level=1).count() == 1
    tab.page.get_by_role("img", name="Throughput of the last 5 min").wait_for()
    assert tab.page.get_by_role("link", name="Boots", exact=True).get_attribute("aria-current") == "page"


def test_by_keyboard_only(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"))
    tab.row(recorded.mac_of(60)).wait_for()
    tab.press("Tab")
    assert tab.focused() == "Skip to the content"
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert tab.page.evaluate(outline) == "solid"
    tab.press("Enter")
    assert tab.focused() == "Boots"
    focused = []
    for _ in range(4):
        tab.press("Tab")
        focused.append(tab.focused())
        assert tab.page.evaluate(outline) == "solid"
    assert focused == ["search", "verdict", "Pause", recorded.mac_of(60)]
    tab.press("Enter")
    tab.page.get_by_role("img", name="Timeline of a boot").wait_for()
    assert tab.focused() == recorded.mac_of(60), "its heading"
    tab.page.get_by_label("File to boot once").wait_for()
    tab.press("Tab")
    assert tab.focused() == "file"
    tab.page.keyboard.type("install.ipxe")
    tab.press("Enter")
    tab.page.get_by_role("dialog").wait_for()
    assert tab.focused() == "token"
    tab.press("Escape")
    tab.page.get_by_role("dialog").wait_for(state="detached")
    assert tab.page.get_by_text("Once: install.ipxe").count() == 0


def test_the_row_with_the_focus_keeps_it(start_server: StartServer, open_tab: OpenTab) -> None:
    """Boots that come push it down, and its own change replaces its cells."""
    server = start_server("busy")
    tab = open_tab(server)
    tab.row(recorded.mac_of(60)).get_by_role("link").focus()
    server.send_command("begin 300 3")
    server.send_command("finish 300 3")
    tab.row(recorded.mac_of(301)).filter(has_text="Booted").wait_for()
    assert tab.focused() == recorded.mac_of(60)
    tab.row(recorded.mac_of(302)).get_by_role("link").focus()
    server.send_command("fail 901")
    tab.row(recorded.mac_of(901)).wait_for()
    assert tab.focused() == recorded.mac_of(302)


def test_times_are_those_of_the_viewer(shared_server: StartServer, open_tab: OpenTab) -> None:
    server = shared_server("busy")
    tokyo, lima = (open_tab(server, timezone_id=zone) for zone in ("Asia/Tokyo", "America/Lima"))
    tokyo.page.get_by_text("Times are those of Asia/Tokyo").wait_for()
    texts = []
    for tab in (tokyo, lima):
        time = tab.row(recorded.mac_of(60)).locator("time")
        texts.append((time.inner_text(), time.get_attribute("datetime")))
    assert texts[0][1] == texts[1][1]
    assert texts[0][0] != texts[1][0]


def test_reduced_motion_is_respected(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    moving, reduced = (open_tab(server, reduced_motion=motion) for motion in ("no-preference", "reduce"))
    for tab in (moving, reduced):
        tab.row(recorded.mac_of(60)).wait_for()
    server.send_command("begin 300 1")
    names = []
    for tab in (moving, reduced):
        row = tab.row(recorded.mac_of(300))
        row.wait_for()
        names.append(row.evaluate("(row) => getComputedStyle(row).animationName"))
    assert names == ["fresh", "none"]


# Orders


def test_a_next_boot_is_ordered_and_cancelled(start_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(start_server("busy"), f"#/machine/{recorded.mac_of(7)}")
    tab.page.get_by_label("File to boot once").fill("install.ipxe")
    tab.page.get_by_role("button", name="Order").click()
    tab.page.get_by_role("textbox", name="Token").fill("wrong-wrong-wrong")
    tab.page.get_by_role("button", name="Continue").click()
    tab.page.get_by_text("The token is wrong.").wait_for()
    assert tab.violations() == []
    tab.page.get_by_role("textbox", name="Token").fill(recorded.TOKEN)
    tab.press("Enter")
    tab.page.get_by_text("Once: install.ipxe").wait_for()
    tab.page.get_by_role("link", name="Server", exact=True).click()
    tab.row("install.ipxe").get_by_role("button", name=f"Cancel the order for {recorded.mac_of(7)}").click()
    tab.row("install.ipxe").wait_for(state="detached")  # the token is known by now


def post(tab: Tab, path: str, **values: str) -> None:
    """Have the server of a tab do something, as another operator."""
    headers = {"Authorization": f"Bearer {recorded.TOKEN}"}
    assert tab.page.request.post(f"{tab.origin}/api/{path}", headers=headers, data=values).ok


def test_an_order_that_a_boot_takes_is_shown_no_more(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    tab = open_tab(server)
    post(tab, "order", mac=recorded.mac_of(7), file="install.ipxe")
    tab.page.goto(f"{tab.origin}/#/machine/{recorded.mac_of(7)}")
    tab.page.get_by_text("Once: install.ipxe").wait_for()
    post(tab, "cancel", mac=recorded.mac_of(7))
    server.send_command("begin 7 1")
    tab.page.get_by_label("File to boot once").wait_for()


@pytest.mark.parametrize(
    ("view", "read", "change", "values", "cells"),
    [
        ("server", "orders", "order", {"mac": recorded.mac_of(7), "file": "install.ipxe"}, (recorded.mac_of(7),)),
        ("machines", "machines?*", "machine", {"mac": recorded.mac_of(7), "name": "web1"}, ("web1",)),
        ("leases", "leases?*", "release", {"address": "127.77.0.1"}, ("127.77.0.1", "Released system")),
    ],
)
def test_changes_by_others_are_shown_after_a_while(
    start_server: StartServer,
    open_tab: OpenTab,
    view: str,
    read: str,
    change: str,
    values: dict[str, str],
    cells: Sequence[str],
) -> None:
    tab = open_tab(start_server("busy"))
    tab.page.clock.install()
    with tab.page.expect_response(f"**/api/{read}"):
        tab.page.goto(f"{tab.origin}/#/{view}")
    post(tab, change, **values)
    row = tab.page.get_by_role("row")
    for cell in cells:
        row = row.filter(has=tab.page.get_by_text(cell, exact=True))
    assert not row.count()
    tab.page.clock.fast_forward(15_000)
    row.wait_for()


def test_forms_of_a_machine_appear_together(shared_server: StartServer, open_tab: OpenTab) -> None:
    """Else the one that is loaded later moves the other from under the pointer."""
    tab = open_tab(shared_server("busy"))
    held: list[Any] = []
    tab.page.route("**/api/orders", lambda route: held.append(route))
    with tab.page.expect_response("**/api/images"), tab.page.expect_response("**/api/machines?*"):
        tab.page.goto(f"{tab.origin}/#/machine/{recorded.mac_of(7)}")
    name = tab.page.get_by_label("Name", exact=True)
    name.wait_for(state="attached")
    assert not name.is_visible()
    held.pop().continue_()
    tab.page.get_by_label("File to boot once").wait_for()
    assert name.is_visible()


def test_a_form_does_not_wait_for_a_server_that_hangs(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"))
    tab.page.route("**/api/images", lambda route: None)
    tab.page.goto(f"{tab.origin}/#/machine/{recorded.mac_of(7)}")
    tab.page.get_by_label("File to boot once").wait_for()


def test_an_order_that_cannot_be_read_is_an_error(shared_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(shared_server("busy"))
    tab.page.route("**/api/orders", lambda route: route.fulfill(status=503, json={"error": "the store is busy"}))
    tab.page.goto(f"{tab.origin}/#/machine/{recorded.mac_of(7)}")
    tab.page.get_by_text("The next boot can't be shown: the store is busy.").wait_for()
    tab.page.get_by_label("Name", exact=True).wait_for()
    tab.page.get_by_role("link", name="Server", exact=True).click()
    tab.page.get_by_text("The orders can't be shown: the store is busy.").wait_for()


def test_a_machine_is_named_tagged_and_given_an_image(start_server: StartServer, open_tab: OpenTab) -> None:
    machine = recorded.mac_of(7)
    tab = open_tab(start_server("busy"), f"#/machine/{machine}")
    tab.page.get_by_label("Name", exact=True).fill("Web 1")
    tab.page.get_by_role("button", name="Save").click()
    tab.page.get_by_role("textbox", name="Token").fill(recorded.TOKEN)
    tab.press("Enter")
    tab.page.get_by_text("Name must be a host name").wait_for()
    tab.page.get_by_label("Name", exact=True).fill("web1")
    tab.page.get_by_label("Tags", exact=True).fill("rack1, role=web")
    tab.page.get_by_role("combobox", name="Image").select_option("debian-12")
    assert tab.violations() == []
    tab.page.get_by_role("button", name="Save").click()  # the token is known by now
    tab.page.get_by_text("Saved.").wait_for()
    tab.page.get_by_role("link", name="Machines", exact=True).click()
    row = tab.row(machine).filter(has_text="web1").filter(has_text="rack1, role=web").filter(has_text="debian-12")
    row.get_by_role("link").click()
    tab.page.get_by_role("combobox", name="Image").select_option("")
    tab.page.get_by_role("button", name="Save").click()
    tab.page.get_by_text("Saved.").wait_for()
    assert tab.page.get_by_label("Name", exact=True).input_value() == "web1"


def test_a_lease_is_released(start_server: StartServer, open_tab: OpenTab) -> None:
    tab = open_tab(start_server("busy"), "#/leases")
    tab.page.get_by_role("button", name="Release 127.77.0.1", exact=True).click()
    tab.page.get_by_role("textbox", name="Token").fill(recorded.TOKEN)
    tab.press("Enter")
    tab.page.get_by_text("127.77.0.1 was released.").wait_for()
    tab.page.get_by_label("State").select_option("released")
    tab.page.get_by_role("rowheader", name="127.77.0.2", exact=True).wait_for(state="detached")
    found = tab.page.get_by_role("rowheader").all_inner_texts()
    assert found == [f"127.77.0.{number}" for number in (1, 9, 18, 27, 36)]


def test_page_shows_a_lost_server(start_server: StartServer, open_tab: OpenTab) -> None:
    server = start_server("busy")
    tab = open_tab(server)
    tab.row(recorded.mac_of(60)).wait_for()
    server.stop()
    tab.page.get_by_role("link", name="No connection").wait_for()
    assert tab.row(recorded.mac_of(60)).count(), "what was known stays"
    tab.context.close()
    tab.complaints = [complaint for complaint in tab.complaints if "ERR_" not in complaint]


# Pictures of the documentation


def test_pictures_of_the_documentation_are_drawn(
    shared_server: StartServer, open_tab: OpenTab, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`pytest -k test_pictures --record-pictures` writes them into the documentation."""
    directory = PICTURES if request.config.getoption("--record-pictures") else tmp_path
    size = {"viewport": {"width": 1080, "height": 640}}
    busy = open_tab(shared_server("busy"), device_scale_factor=1.5, **size)
    busy.row(recorded.mac_of(60)).wait_for()
    busy.page.get_by_role("img", name="at most").wait_for()
    failing = open_tab(shared_server("failing"), MACHINE, device_scale_factor=1.5, **size)
    failing.page.get_by_role("img", name="Timeline").wait_for()
    phone = open_tab(shared_server("failing"), device_scale_factor=1.5, **PHONE)
    phone.row("52:54:00:00:00:0e").wait_for()
    for name, tab in {"boots": busy, "timeline": failing, "phone": phone}.items():
        screenshots = set()
        for scheme in ("light", "dark"):
            tab.page.emulate_media(color_scheme=scheme)
            path = directory / f"web-{name}-{scheme}.png"
            screenshots.add(tab.page.screenshot(path=path))
            assert path.stat().st_size > 10_000
        assert len(screenshots) == 2, "in two schemes"
