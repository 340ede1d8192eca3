"""A small UNet with time embedding, group norm and attention at the bottom: the shape of a diffusion denoiser."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """GroupNorm -> SiLU -> Conv twice, the time embedding added between, and a 1x1 skip where channels change."""

    def __init__(self, channels: int, out_channels: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, out_channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_width, out_channels)
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map `[N, channels, H, W]` and a time embedding `[N, time_width]` to `[N, out_channels, H, W]`."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = h + self.time(functional.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(functional.silu(self.norm2(h)))


class SpatialAttention(nn.Module):
    """Self-attention over the H·W positions of a feature map."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.GroupNorm(groups, channels), heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to the same shape."""
        n, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(mixed).transpose(1, 2).reshape(n, c, h, w)


class UNet(nn.Module):
    """Three levels down and up, with skip connections by concatenation."""

    def __init__(self, width: int, channels: int = 4, groups: int = 8) -> None:
        super().__init__()
        time_width = 2 * width
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            ResidualBlock(a, b, time_width, groups) for a, b in zip([width, *widths], widths, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = SpatialAttention(widths[-1], heads=4, groups=groups)
        self.up = nn.ModuleList(
            ResidualBlock(a + b, b, time_width, groups)
            for a, b in zip([widths[2], widths[2], widths[1]], widths[::-1], strict=True)
        )
        self.leave_norm, self.leave = nn.GroupNorm(groups, width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Predict the noise in `sample` `[N, channels, H, W]` at `timestep` `[N]` (H and W multiples of 4)."""
        half = self.width // 2
        rates = torch.exp(-torch.arange(half, dtype=torch.float32) * (9.21 / half))
        angles = timestep[:, None].float() * rates[None]
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        x, kept = self.enter(sample), list[Tensor]()
        for level, block in enumerate(self.down):
            x = block(x, time)
            kept.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.middle(x)
        for block in self.up:
            skip = kept.pop()
            if x.shape[-1] != skip.shape[-1]:
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skip], dim=1), time)
        return self.leave(functional.silu(self.leave_norm(x)))
