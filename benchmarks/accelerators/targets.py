"""Devices to compile for: those of `compressarc.batch.absent_devices`, or the one that is here."""

from compressarc.batch.absent_devices import TARGETS, Target, check_installed

__all__ = ["TARGETS", "Target", "check_installed", "here"]


def here() -> Target:
    """The device that is here, as a target; one of an unknown kind is planned for as a common one."""
    import jax

    from compressarc.batch.device_model import DEVICES

    device = jax.local_devices()[0]
    kind = device.device_kind.lower().replace(" ", "").replace("lite", "e")
    usual = {"gpu": "a100", "tpu": "v5e"}.get(device.platform, "cpu")
    model = next((name for name in DEVICES if name != "cpu" and name in kind), usual)
    return Target(model, "cuda" if device.platform == "gpu" else device.platform, model, "")
