"""Well-known mirrors of PyPI, for people to whom PyPI itself is slow or out of reach."""

from __future__ import annotations

from dataclasses import dataclass

from qwen_tui.errors import UsageError
from qwen_tui.i18n import N_, _

#: Where PyTorch's CPU builds ("torch==2.13.0+cpu") are, which PyPI does not carry. Arguments for pip.
TORCH_CPU = ("--extra-index-url", "https://download.pytorch.org/whl/cpu")
#: The same builds from within China.
TORCH_CPU_CHINA = ("--find-links", "https://mirrors.aliyun.com/pytorch-wheels/cpu/")


@dataclass(frozen=True)
class Mirror:
    """A package index that holds all of PyPI.

    name: what is typed. title: who runs it (a catalogue key). index_url: for pip's --index-url; empty means
    pip's own setting. torch_cpu: where to look for CPU builds of torch, in this order; arguments for pip.
    """

    name: str
    title: str
    index_url: str
    torch_cpu: tuple[tuple[str, ...], ...] = (TORCH_CPU_CHINA, TORCH_CPU)


MIRRORS: tuple[Mirror, ...] = (
    Mirror("default", N_("pip's own setting (PyPI unless changed)"), "", (TORCH_CPU,)),
    Mirror("tuna", N_("Tsinghua University"), "https://pypi.tuna.tsinghua.edu.cn/simple"),
    Mirror("aliyun", N_("Alibaba Cloud"), "https://mirrors.aliyun.com/pypi/simple/"),
    Mirror("ustc", N_("University of Science and Technology of China"), "https://mirrors.ustc.edu.cn/pypi/simple"),
    Mirror("tencent", N_("Tencent Cloud"), "https://mirrors.cloud.tencent.com/pypi/simple"),
    Mirror("huawei", N_("Huawei Cloud"), "https://repo.huaweicloud.com/repository/pypi/simple"),
    Mirror("bfsu", N_("Beijing Foreign Studies University"), "https://mirrors.bfsu.edu.cn/pypi/web/simple"),
)


def mirror_named(name: str) -> Mirror:
    """The mirror `name`. Raises UsageError listing the known ones."""
    for mirror in MIRRORS:
        if mirror.name == name.lower():
            return mirror
    raise UsageError(
        _("There is no mirror “{name}”").format(name=name),
        "",
        _("Known are: {names}").format(names=", ".join(mirror.name for mirror in MIRRORS)),
    )


def mirror_for(index_url: str) -> Mirror:
    """The known mirror at `index_url`, or one made of it."""
    for mirror in MIRRORS:
        if mirror.index_url.rstrip("/") == index_url.rstrip("/"):
            return mirror
    return Mirror("custom", index_url, index_url, (TORCH_CPU,))
