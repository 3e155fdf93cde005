"""``[multicast]``: the values that the configuration accepts and refuses, and its reload."""

from pathlib import Path

import pytest

from bootfw.build import load_parts
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.settings import MulticastImage, MulticastSettings, group_range, networks, port_range
from bootfw.reload import needing_restart


def loaded(directory: Path, text: str) -> MulticastSettings:
    path = directory / "bootfw.toml"
    path.write_text(text)
    return load_config(path, {}).settings.multicast


def test_multicast_is_off_without_a_section(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    assert (settings.listen, settings.images, settings.methods) == ((), (), ("multicast",))


def test_every_key_of_multicast_is_read(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[multicast]\nlisten = ["10.0.0.1:64494"]\ngroups = "239.1.2.3"\nports = "3000-3010"\nmethods = ["unicast"]\n'
        'rate = "10 MB"\ntotal-rate = "20 MB"\nsessions = 4\nidle-seconds = "5 min"\nttl = 1\n'
        'writable = true\nwritable-by = ["10.0.0.9"]\nmax-upload = "1 GB"\nupload-seconds = "1 min"\n'
        '[[multicast.image]]\npath = "win11.img"\naddress = "239.192.2.1:3564"\n',
    )
    image = MulticastImage("win11.img", ("239.192.2.1", 3564))
    assert settings == MulticastSettings(
        (("10.0.0.1", 64494),),
        "239.1.2.3",
        "3000-3010",
        ("unicast",),
        10**7,
        2 * 10**7,
        4,
        300.0,
        1,
        (image,),
        True,
        networks(["10.0.0.9"]),
        10**9,
        60.0,
    )
    assert group_range(settings.groups) == ("239.1.2.3", "239.1.2.3")
    assert port_range(settings.ports) == (3000, 3010)


IMAGE = '[[multicast.image]]\npath = "a"\naddress = "{}"\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[multicast]\ngroups = "10.0.0.1-10.0.0.9"', "no multicast address"),
        ('[multicast]\ngroups = "239.192.1.9-239.192.1.2"', 'reversed: write "239.192.1.2-239.192.1.9"'),
        ('[multicast]\ngroups = "239.0.0.1"', "which switches flood"),
        ('[multicast]\ngroups = "239.128.0.1"', "which switches flood"),
        ('[multicast]\ngroups = "239.1.0.0-239.3.0.0"', "it may have 65536"),
        ('[multicast]\ngroups = "all"', "must be IPv4 groups, such as"),
        ('[multicast]\nports = "single"', 'must be a range such as "21700-21955"'),
        ('[multicast]\nports = "9-3"', 'reversed: write "3-9"'),
        ('[multicast]\nmethods = ["anycast"]', 'not of "anycast"'),
        ("[multicast]\nmethods = []", "must have one of"),
        ('[multicast]\nlisten = ["[::]:64494"]', "has IPv4 only"),
        ("[multicast]\nrate = 10", "must be from 100000"),
        ("[multicast]\nttl = 0", "must be from 1 to 255 hops"),
        ("[multicast]\nwritable = true", "uploads begin at the master server: set listen"),
        ('[multicast]\nwritable-by = ["10.0.0.0/8"]', "no client may upload without writable = true"),
        (IMAGE.format("10.0.0.1:3564"), "no multicast address"),
        (IMAGE.format("239.192.2.1:0"), "must be an IPv4 group and a port"),
        (IMAGE.format("239.192.2.1:21700"), "is one of `ports`"),
        (IMAGE.format("239.192.2.1:3564") + IMAGE.format("239.192.2.2:3564"), "two images have port 3564"),
    ],
)
def test_a_mistake_in_the_multicast_section_is_named(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, text)
    assert error in str(caught.value)
    assert "multicast" in str(caught.value)


def test_the_whole_section_can_be_reloaded(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text("")
    before = load_parts(path, {}, None)
    path.write_text(
        '[multicast]\nlisten = ["10.0.0.1:64494"]\nrate = "10 MB"\nttl = 1\n' + IMAGE.format("239.9.9.9:99")
    )
    assert list(needing_restart(before, load_parts(path, {}, None, before))) == []
