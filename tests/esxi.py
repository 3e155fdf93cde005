"""The files of ESXi's installers, and what its boot program requests."""

from collections.abc import Callable, Iterator

from attrs import define, field

_NAMES_7 = """
jumpstrt.gz useropts.gz features.gz k.b00 uc_intel.b00 uc_amd.b00 uc_hygon.b00 procfs.b00 vmx.v00 vim.v00 tpm.v00 sb.v00
s.v00 bnxtnet.v00 bnxtroce.v00 brcmfcoe.v00 brcmnvme.v00 elxiscsi.v00 elxnet.v00 i40en.v00 i40iwn.v00 iavmd.v00 igbn.v00
iser.v00 ixgben.v00 lpfc.v00 lpnic.v00 lsi_mr3.v00 lsi_msgp.v00 lsi_msgp.v01 lsi_msgp.v02 mtip32xx.v00 ne1000.v00
nenic.v00 nfnic.v00 nhpsa.v00 nmlx4_co.v00 nmlx4_en.v00 nmlx4_rd.v00 nmlx5_co.v00 nmlx5_rd.v00 ntg3.v00 nvme_pci.v00
nvmerdma.v00 nvmxnet3.v00 nvmxnet3.v01 pvscsi.v00 qcnic.v00 qedentv.v00 qedrntv.v00 qfle3.v00 qfle3f.v00 qfle3i.v00
qflge.v00 rste.v00 sfvmk.v00 smartpqi.v00 vmkata.v00 vmkfcoe.v00 vmkusb.v00 vmw_ahci.v00 crx.v00 elx_esx_.v00 btldr.v00
esx_dvfi.v00 esx_ui.v00 esxupdt.v00 tpmesxup.v00 weaselin.v00 loadesx.v00 lsuv2_hp.v00 lsuv2_in.v00 lsuv2_ls.v00
lsuv2_nv.v00 lsuv2_oe.v00 lsuv2_oe.v01 lsuv2_oe.v02 lsuv2_sm.v00 native_m.v00 qlnative.v00 vdfs.v00 vmware_e.v00
vsan.v00 vsanheal.v00 vsanmgmt.v00 tools.t00 xorg.v00 imgdb.tgz imgpayld.tgz
"""
"""https://github.com/datianshi/pxeboot, backend/pkg/util/fixture/boot.cfg: that of 7.0.0-1.0.15843807."""

_NAMES_8 = """
jumpstrt.gz useropts.gz features.gz k.b00 uc_intel.b00 uc_amd.b00 uc_hygon.b00 procfs.b00 vmx.v00 vim.v00 tpm.v00 sb.v00
s.v00 atlantic.v00 bcm_mpi3.v00 bnxtnet.v00 bnxtroce.v00 brcmfcoe.v00 cndi_igc.v00 dwi2c.v00 elxiscsi.v00 elxnet.v00
i40en.v00 iavmd.v00 icen.v00 igbn.v00 intelgpi.v00 ionic_cl.v00 ionic_en.v00 irdman.v00 iser.v00 ixgben.v00 lpfc.v00
lpnic.v00 lsi_mr3.v00 lsi_msgp.v00 lsi_msgp.v01 lsi_msgp.v02 mtip32xx.v00 ne1000.v00 nenic.v00 nfnic.v00 nhpsa.v00
nipmi.v00 nmlx5_cc.v00 nmlx5_co.v00 nmlx5_rd.v00 ntg3.v00 nvme_pci.v00 nvmerdma.v00 nvmetcp.v00 nvmxnet3.v00
nvmxnet3.v01 pvscsi.v00 qcnic.v00 qedentv.v00 qedrntv.v00 qfle3.v00 qfle3f.v00 qfle3i.v00 qflge.v00 rdmahl.v00
rshim_ne.v00 rshim.v00 rste.v00 sfvmk.v00 smartpqi.v00 vmkata.v00 vmksdhci.v00 vmkusb.v00 vmw_ahci.v00 bmcal.v00
clusters.v00 crx.v00
drivervm.v00 elx_esx_.v00 btldr.v00 dvfilter.v00 esx_ui.v00 esxupdt.v00 tpmesxup.v00 weaselin.v00 esxio_co.v00
infravis.v00 loadesx.v00 lsuv2_hp.v00 lsuv2_in.v00 lsuv2_ls.v00 lsuv2_nv.v00 lsuv2_oe.v00 lsuv2_oe.v01 lsuv2_sm.v00
native_m.v00 qlnative.v00 trx.v00 vcls_pod.v00 vdfs.v00 vds_vsip.v00 vmware_e.v00 hbrsrv.v00 vsan.v00 vsanheal.v00
vsanmgmt.v00 tools.t00 xorg.v00 gc.v00 imgdb.tgz basemisc.tgz resvibs.tgz esxiodpt.tgz imgpayld.tgz
"""
"""https://github.com/lamw/vcf-5x-in-box, README.md: boot.cfg of 8.0.3-0.35.24280767."""

_SIZES_7 = """
b.b00 135334 jumpstrt.gz 20 useropts.gz 30 features.gz 20 k.b00 5173387 uc_intel.b00 1307186 uc_amd.b00 5541
uc_hygon.b00 29 procfs.b00 8800 vmx.v00 32651664 vim.v00 22977481 tpm.v00 11326 sb.v00 40801753 s.v00 12374755
bnxtnet.v00 197255 brcmfcoe.v00 600424 crx.v00 7379577 esx_ui.v00 3825881 vdfs.v00 4558421 vsan.v00 14626056
vsanmgmt.v00 4061832 weaselin.v00 1076463 xorg.v00 1455532 mboot.c32 94000 menu.c32 53456 safeboot.c32 61512
isolinux.bin 14336 efiboot.img 1048576
"""
"""Sizes of payloads, from the descriptors of the packages of 7.0.0-1.0.15843807, such as esx-base."""

NAMES = {7: _NAMES_7.split(), 8: _NAMES_8.split()}
"""The modules that an installer loads."""

BUILDS = {7: "7.0.0-1.0.15843807", 8: "8.0.3-0.35.24280767"}

SIZES = dict(zip(_SIZES_7.split()[::2], map(int, _SIZES_7.split()[1::2]), strict=True))

KERNELOPT = {7: "cdromBoot runweasel", 8: "runweasel cdromBoot"}


def boot_cfg(release: int) -> bytes:
    modules = " --- ".join(f"/{name}" for name in NAMES[release])
    return (
        "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\n"
        f"kernelopt={KERNELOPT[release]}\nmodules={modules}\nbuild={BUILDS[release]}\nupdated=0\n"
    ).encode()


def tree(release: int) -> dict[str, bytes]:
    """The files of a CD, each with its own name as content. Without Rock Ridge the names are in capitals."""
    names = ["b.b00", *NAMES[release], "mboot.c32", "menu.c32", "safeboot.c32", "isolinux.bin", "efiboot.img"]
    names += ["efi/boot/bootx64.efi"]
    if release == 8:
        names += ["efi/boot/crypto64.efi"]
    files = {name.upper(): name.encode() for name in names}
    return {**files, "BOOT.CFG": boot_cfg(release), "EFI/BOOT/BOOT.CFG": boot_cfg(release)}


@define
class Mboot:
    """What mboot requests: vmware/esx-boot, locate_config_file() and parse_config() of mboot/config.c,
    load_crypto_module() of mboot/mboot.c, make_path() of bootlib/string.c.

    :param read: returns the size and the beginning of a file of the server by its path or URL; None: there is none.
    """

    read: Callable[[str], tuple[int, bytes] | None]
    requested: list[str] = field(factory=list)

    def boot(self, directory: str, config: str = "", mac: str = "") -> Iterator[tuple[str, tuple[int, bytes] | None]]:
        """Yield each file that it loads, without its directory: kernel, modules, the module for signatures.

        :param directory: that of the boot program; iPXE doesn't pass it on.
        :param config: the argument of -c.
        """
        names = [config] if config else [f"01-{mac}/boot.cfg", "boot.cfg"]
        paths = [_path(directory, name) for name in names]
        path, (_, data) = next((path, found) for path in paths if (found := self._request(path)) is not None)
        lines = dict(line.split("=", 1) for line in data.decode().splitlines())
        prefix = lines.get("prefix", path.rpartition("/")[0])
        for name in (item.strip() for item in [lines["kernel"], *lines["modules"].split("---")]):
            yield name.rpartition("/")[2], self._request(_path(prefix, name))
        for root, name in ((directory, ""), (prefix, ""), (prefix, "efi/boot/")):
            crypto = self._request(_path(root, f"{name}crypto64.efi"))
            if crypto is not None:
                yield "crypto64.efi", crypto
                break

    def _request(self, path: str) -> tuple[int, bytes] | None:
        self.requested.append(path)
        return self.read(path)


def _path(root: str, name: str) -> str:
    return name if name.startswith("/") or "://" in name or not root else f"{root}/{name}"
