"""A card's figures, as a vendor states them or as its driver reports them."""

from dataclasses import dataclass

from codejoule.domain import Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the estimator needs to know of a GPU; None where it is not known."""

    name: str
    """The choice of the group ``gpu``, or what the driver calls the card."""
    memory_bytes: int
    """Memory that programs can use."""
    bandwidth_bytes_per_s: float
    """Peak memory bandwidth."""
    peak_float16_flop_per_s: float | None = None
    """Dense peak in float16, summed in float32."""
    peak_bfloat16_flop_per_s: float | None = None
    """Dense peak in bfloat16."""
    peak_int8_op_per_s: float | None = None
    """Dense peak in int8."""
    power_limit_w: float | None = None
    """Power limit of the board."""
    idle_power_w: float | None = None
    """Power while nothing runs."""

    def peak_flop_per_s(self, quantization: Quantization, *, dtype: str) -> float | None:
        """Peak of a model's multiplications, in int8 where its weights are multiplied so, else in
        the `dtype` of its activations [operations per second]; None where it is not known."""
        if quantization.bits in quantization.facts.int8_bits:
            return self.peak_int8_op_per_s
        return {
            "float16": self.peak_float16_flop_per_s,
            "bfloat16": self.peak_bfloat16_flop_per_s,
        }.get(dtype)


def read_card(index: int) -> Card:
    """Read a card through NVML.

    Parameters
    ----------
    index : int
        NVML's number of the card.

    Returns
    -------
    Card
        Memory, bandwidth and power limit; NVML does not tell peak rates.

    Raises
    ------
    pynvml.NVMLError
        If the driver does not answer.

    Notes
    -----
    Bandwidth is twice the highest memory clock times the bus width: memory of these cards moves
    two words per clock that NVML reports (A100: 2 x 1,593 MHz x 5,120 bits = 2.04 TB/s, as in
    its data sheet).
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
        bus_bits = pynvml.nvmlDeviceGetMemoryBusWidth(handle)
        return Card(
            name=pynvml.nvmlDeviceGetName(handle),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            bandwidth_bytes_per_s=2 * clock_hz * bus_bits / 8,
            power_limit_w=pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000,
        )
    finally:
        pynvml.nvmlShutdown()
