"""The pixels of a resize and of its way back, on ComfyUI's IMAGE and MASK tensors.

IMAGE is (B, H, W, C) float in 0..1, MASK (B, H, W) float in 0..1. Which pixels go where is `resize.Transform`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..geometry import Size, sides
from ..plan import PlanError, shown
from ..plans.resize import Transform, same_aspect
from .masks import at_least_zero, soften

# A VAE crops what does not fill its last patch: up to this many pixels, centred.
VAE_CROP = 16


def image_size(image: torch.Tensor) -> Size:
    """(width, height) of an IMAGE; PlanError when it is none."""
    if not torch.is_tensor(image) or image.ndim != 4 or 0 in image.shape:
        found = tuple(image.shape) if torch.is_tensor(image) else shown(image)
        raise PlanError(f"an image has the shape (batch, height, width, channels), found {found}")
    if not image.is_floating_point():
        kind = str(image.dtype).removeprefix("torch.")
        raise PlanError(f"an image holds floats from 0 to 1, found {kind}; look at the node that made it")
    return image.shape[2], image.shape[1]


def mask_stack(mask: torch.Tensor) -> torch.Tensor:
    """(B, H, W) of a MASK with any further axes; PlanError when it is none, or has no pixels."""
    if not torch.is_tensor(mask) or mask.ndim < 2 or 0 in mask.shape[-2:]:
        found = tuple(mask.shape) if torch.is_tensor(mask) else shown(mask)
        raise PlanError(f"a mask has the shape (batch, height, width), found {found}; look at what made it")
    return mask.reshape((-1, *mask.shape[-2:]))


def in_colours(image: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) of an image in colours or grey, without alpha."""
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(1, 1, 1, 3)


def apply_transform(image: torch.Tensor, transform: Transform) -> torch.Tensor:
    """The working image, (B, H, W, C). What a pad adds repeats the image's outermost pixels."""
    if image_size(image) != transform.source_size:
        raise PlanError(
            f"the image has {sides(image_size(image))} pixels, the transform is for {sides(transform.source_size)}; "
            "connect the image that the transform was made for, or make another for this one with RePlan Resize"
        )
    if transform.is_identity:
        return image
    x1, y1, x2, y2 = transform.source_box
    left, top, right, bottom = transform.working_box
    content = resize_pixels(image[:, y1:y2, x1:x2], (right - left, bottom - top))
    width, height = transform.working_size
    # Repeated edges and not a flat colour: a flat bar is a sharp line that an editing model likes to continue.
    return _repeat_edges(content, left, top, width - right, height - bottom)


def restore_image(
    image: torch.Tensor,
    transform: Transform,
    original: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    feather: float = 0.0,
) -> torch.Tensor:
    """The edited working image at the size of the source, (B, H, W, C).

    Padding is cut away. A crop is put back into `original`; without one, the cropped part comes back alone at
    its original scale. With a `mask` (source or working size) only what it selects is taken from `image` and
    the rest is `original`, bit for bit. feather: soft edge in pixels, inside the mask and inside the crop.
    original and mask are one, or as many as the images.
    Raises PlanError when a size or a number does not fit, for a negative feather and a mask that is not finite.
    """
    at_least_zero(feather, "feather")
    if mask is not None and not torch.isfinite(mask).all():
        raise PlanError(
            "the mask holds values that are not finite (NaN or infinity), which would spoil the image; its values must "
            "lie between 0 and 1, so look at what made it"
        )
    piece = resize_pixels(_content(image, transform), _box_size(transform.source_box))
    if original is None:
        if mask is not None:
            raise PlanError("a mask says where the original image stays, so it needs one; connect 'original'")
        return piece
    if image_size(original) != transform.source_size:
        raise PlanError(
            f"the original has {sides(image_size(original))} pixels, but the image that was resized had "
            f"{sides(transform.source_size)}; connect the image that went into RePlan Resize"
        )
    original = original.to(piece)
    weight = torch.ones((1, *original.shape[1:3])) if mask is None else _source_mask(mask, transform)
    batch = len(piece)
    original = _to_batch(original, batch, "original images", "one")
    weight = _to_batch(weight, batch, "masks", "one (RePlan Region Masks gives all regions as 'combined')")
    x1, y1, x2, y2 = transform.source_box
    # An edit without alpha keeps the original's; an edit with alpha gives the result one.
    original = _with_channels(original, piece, 1.0)
    piece = _with_channels(piece, original, original[:, y1:y2, x1:x2, 3:])
    inside = torch.zeros_like(weight)
    inside[:, y1:y2, x1:x2] = weight[:, y1:y2, x1:x2]
    if feather > 0:
        soft = [torch.from_numpy(soften((row > 0).cpu().numpy(), feather)) for row in inside]
        inside = inside * torch.stack(soft).to(inside)
    inside = inside.to(piece).unsqueeze(-1)[:, y1:y2, x1:x2]
    result = original.clone()
    kept = original[:, y1:y2, x1:x2]
    # Not by weight 0: an edit that is not finite would spoil what it has no part in, and the other way round.
    mixed = torch.where(inside == 0, kept, torch.where(inside == 1, piece, kept * (1 - inside) + piece * inside))
    result[:, y1:y2, x1:x2] = mixed
    return result


def resize_pixels(image: torch.Tensor, size: Size) -> torch.Tensor:
    """(B, H, W, C) at another (width, height), antialiased bicubic, kept within 0..1.

    Not ComfyUI's "lanczos": that one goes through 8-bit images on the CPU and rounds down, so an image loses
    half a level each way; this one is exact for an unchanged size and stays on the image's device. Colours of
    an image with alpha are weighted by it, so what is transparent does not bleed into what is not.
    """
    if image_size(image) == size:
        return image
    pixels = image.float().movedim(-1, 1)
    has_alpha = pixels.shape[1] == 4
    if has_alpha:
        pixels = torch.cat([pixels[:, :3] * pixels[:, 3:], pixels[:, 3:]], 1)
    pixels = F.interpolate(pixels, size=(size[1], size[0]), mode="bicubic", antialias=True).clamp(0, 1)
    if has_alpha:
        alpha = pixels[:, 3:]
        pixels = torch.cat([(pixels[:, :3] / alpha.clamp(min=1e-6)).clamp(0, 1), alpha], 1)
    return pixels.movedim(1, -1).contiguous().to(image.dtype)


def _content(image: torch.Tensor, transform: Transform) -> torch.Tensor:
    """The part of a working image that comes from the source, whatever size the sampler made of it."""
    size, working = image_size(image), transform.working_size
    lost = [w - s for w, s in zip(working, size, strict=True)]
    if size != working and all(0 <= pixels < VAE_CROP for pixels in lost):
        left, top = lost[0] // 2, lost[1] // 2
        image = _repeat_edges(image, left, top, lost[0] - left, lost[1] - top)
        size = working
    if size != working and not same_aspect(size, working):
        raise PlanError(
            f"the image has {sides(size)} pixels, but RePlan Resize made one of {sides(working)}, another aspect "
            "ratio, so it cannot be put back; sample at the size of RePlan Resize's image"
        )
    x1, y1, x2, y2 = transform.working_box
    across, down = size[0] / working[0], size[1] / working[1]
    left, top = math.floor(x1 * across + 0.5), math.floor(y1 * down + 0.5)
    right, bottom = math.floor(x2 * across + 0.5), math.floor(y2 * down + 0.5)
    return image[:, top : max(top + 1, bottom), left : max(left + 1, right)]


def _source_mask(mask: torch.Tensor, transform: Transform) -> torch.Tensor:
    """(B, H, W) at the source's size, from a mask of the source's or of the working size."""
    mask = mask_stack(mask).float()
    size = (mask.shape[2], mask.shape[1])
    if size == transform.source_size:
        return mask
    if size != transform.working_size:
        raise PlanError(
            f"the mask has {sides(size)} pixels; it must have the size of the original, "
            f"{sides(transform.source_size)}, or of the working image, {sides(transform.working_size)}"
        )
    left, top, right, bottom = transform.working_box
    x1, y1, x2, y2 = transform.source_box
    part = mask[:, None, top:bottom, left:right]
    full = mask.new_zeros((len(mask), transform.source_size[1], transform.source_size[0]))
    part = F.interpolate(part, size=(y2 - y1, x2 - x1), mode="bilinear", antialias=True)
    full[:, y1:y2, x1:x2] = part[:, 0].clamp(0, 1)
    return full


def _repeat_edges(image: torch.Tensor, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    if not any((left, top, right, bottom)):
        return image
    return F.pad(image.movedim(-1, 1), (left, right, top, bottom), mode="replicate").movedim(1, -1).contiguous()


def _with_channels(image: torch.Tensor, like: torch.Tensor, alpha: torch.Tensor | float) -> torch.Tensor:
    """`image` with an alpha channel when `like` has one and it has none."""
    if image.shape[-1] == like.shape[-1] or (image.shape[-1], like.shape[-1]) == (4, 3):
        return image
    if (image.shape[-1], like.shape[-1]) != (3, 4):
        raise PlanError(f"one image has {image.shape[-1]} channels and the other {like.shape[-1]}; both need 3 or 4")
    return torch.cat([image, torch.zeros_like(image[..., :1]) + alpha], -1)


def _to_batch(tensor: torch.Tensor, batch: int, what: str, one: str) -> torch.Tensor:
    if len(tensor) not in (1, batch):
        images = f"{batch} edited image{'s' * (batch != 1)}"
        raise PlanError(f"found {len(tensor)} {what} for {images}; connect {one}, or one for each image")
    return tensor.expand(batch, *tensor.shape[1:])


def _box_size(box: tuple[int, int, int, int]) -> Size:
    return box[2] - box[0], box[3] - box[1]
