"""Literal formulations: each method as its paper and specification write it, with no thought for speed.

They are what `bench/` measures against and what the tests compare the product's results with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import cg
from torch import Tensor, nn

RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def bilateral_solve(
    image: npt.NDArray[np.uint8],
    target: npt.NDArray,
    *,
    sigma_spatial: float = 16,
    sigma_luma: float = 16,
    sigma_chroma: float = 8,
) -> npt.NDArray[np.float64]:
    """Bilateral solver with float hashes, one sparse matrix per grid operator and SciPy's conjugate gradients."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    yuv = np.tensordot(image, RGB_TO_YUV, ([2], [1])) + np.array([0, 128.0, 128.0])
    sigmas = (sigma_spatial, sigma_spatial, sigma_luma, sigma_chroma, sigma_chroma)
    coordinates = np.stack([columns, rows, yuv[..., 0], yuv[..., 1], yuv[..., 2]], axis=-1) / np.array(sigmas)
    weights = 255.0 ** np.arange(5)
    hashed = coordinates.reshape(-1, 5).astype(int) @ weights
    vertices, vertex = np.unique(hashed, return_inverse=True)
    n = len(vertices)
    splat = csr_matrix((np.ones(hashed.size), (vertex, np.arange(hashed.size))), shape=(n, hashed.size))
    neighbours = [_shift(vertices, sign * weight) for weight in weights for sign in (-1, 1)]

    def blur(x: np.ndarray | csr_matrix) -> np.ndarray | csr_matrix:
        return sum((matrix @ x for matrix in neighbours), 10 * x)

    counts = splat @ np.ones(hashed.size)
    scale = np.ones(n)
    for _ in range(10):
        scale = np.sqrt(scale * counts / blur(scale))
    mass = diags(scale * blur(scale))
    dn = diags(scale).tocsr()
    confidence = np.full(hashed.size, 0.999)
    data = splat @ confidence
    system = (256 * (mass - dn @ blur(dn)) + diags(data)).tocsr()
    b = splat @ (confidence * target.ravel())
    preconditioner = diags(1 / np.maximum(system.diagonal(), 1e-5))
    # To 1e-5 of b, the default, whose name depends on the version.
    y, _ = cg(system, b, x0=b / data, atol=0.0, maxiter=25, M=preconditioner)
    return (splat.T @ y).reshape(height, width)


def _shift(vertices: np.ndarray, offset: float) -> csr_matrix:
    """Matrix with a one at (i, j) where the hash of vertex j is that of vertex i plus `offset`."""
    found = np.minimum(np.searchsorted(vertices, vertices + offset), len(vertices) - 1)
    exists = np.flatnonzero(vertices[found] == vertices + offset)
    shape = (len(vertices), len(vertices))
    return coo_matrix((np.ones(len(exists)), (exists, found[exists])), shape=shape).tocsr()


def background_mask(features: Tensor, cls_attention: Tensor, n_heads: int, threshold: float = 0.3) -> Tensor:
    """Background discovery of FOUND for one image, building the whole N x N similarity.

    Args:
        features: float32 [N, C].
        cls_attention: float32 [heads, N].
        n_heads: Number of heads.
        threshold: Cosine above which a patch counts as background.

    Returns:
        bool [N].
    """
    n = len(features)
    mean = cls_attention.mean()
    quantity = torch.stack([(head > mean).sum() / n for head in cls_attention]) + 1e-10
    beta = torch.log(quantity.sum() / quantity)
    weighted = (features.view(n, n_heads, -1) * beta[None, :, None]).flatten(1)
    weighted = nn.functional.normalize(weighted, dim=-1)
    similarity = weighted @ weighted.T
    reference = (beta[:, None] * cls_attention).sum(0).argmin()
    return similarity[reference] > threshold


@torch.inference_mode()
def vit_keys(vit: nn.Module, images: Tensor, pos_embed: Tensor) -> tuple[Tensor, Tensor]:
    """Last-block keys and attention of a timm ViT with every N x N softmax explicit and every block run to its end.

    Args:
        vit: timm VisionTransformer.
        images: float32 [B, 3, H, W], normalised.
        pos_embed: [1, 1 + N, C], already resampled to the grid.

    Returns:
        Keys [B, N, C], CLS dropped, and the last attention [B, heads, 1 + N, 1 + N].
    """
    tokens = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)
    x = torch.cat([vit.cls_token.expand(len(images), -1, -1), tokens], dim=1) + pos_embed
    for block in vit.blocks:
        heads = block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(x))
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        x = x + block.attn.proj((attention @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    vit.norm(x)
    return k.transpose(1, 2).flatten(2)[:, 1:], attention
