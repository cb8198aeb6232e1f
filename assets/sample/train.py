"""How the sample was made: photographs, ground truth, a small network and its logits.

    python train.py photo                             photo.png, labels.png
    python train.py train 9                           work/net.pt; copy it to work/phase1.pt
    python train.py train 6 0.0025 8 work/phase1.pt   warm restart: minutes, rate, seed, weights
    python train.py export                            logits_f16.npy, model.onnx, and the numbers of the README

The training schedule is cut by the clock, so another machine gives other
weights.  The shipped ones took 1018 + 613 steps on one shared CPU core.

Needs numpy, pillow, opencv-python-headless, scikit-image (for the photographs
and textures in its wheel), torch, onnx and onnxruntime.  No downloads.
"""
import json, os, sys, time

import cv2
import numpy as np
from PIL import Image
from skimage import data

H, W, STRIDE, C = 448, 640, 4, 4
NAMES = ["background", "cat", "person", "cup"]
VOID = 255
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

# Ground truth of the three source photographs: hand-drawn outlines (source
# pixels), then for cat and person a GrabCut pass that may move the outline
# only inside a thin band.  The cup is on a saucer of its own colour, where
# GrabCut has nothing to hold on to, so its outline is the polygon itself.
# person = body and the suit worn; the helmet held in the arm is background.
# cup = cup, handle and coffee; saucer and spoon are background.
CAT = [(40,0),(39,10),(37,25),(34,40),(33,55),(32,70),(31,85),(30,97),(27,106),(20,112),(13,117),(6,122),(0,126),
       (0,300),(302,300),(298,288),(296,276),(303,268),(308,260),(312,250),(314,240),(315,228),(318,216),(325,210),
       (333,202),(340,190),(345,183),(351,174),(356,162),(360,150),(361,140),(360,130),(362,122),(361,112),(357,100),
       (356,90),(357,78),(358,70),(362,64),(369,55),(373,45),(377,32),(380,22),(390,10),(398,0)]
PERSON = [(232,16),(250,17),(265,24),(280,33),(292,45),(298,60),(301,78),(300,95),(294,112),(287,123),(277,132),
          (271,136),(266,134),(262,145),(257,160),(256,174),(265,180),(280,193),(293,210),(300,225),(304,235),
          (318,240),(332,250),(340,262),(346,275),(350,285),(354,300),(357,315),(361,330),(364,347),
          (350,352),(340,358),(330,366),(318,376),(306,388),(296,400),(290,412),(285,424),(281,440),(278,460),(277,480),(278,500),(280,512),
          (41,512),(36,503),(31,492),(28,480),(25,465),(24,447),(22,430),(20,415),(20,400),(22,385),(24,365),(25,345),(30,330),
          (35,310),(40,295),(45,282),(52,265),(60,252),(70,240),(85,228),(100,215),(114,206),(114,190),(120,175),
          (128,163),(140,154),(155,149),(170,148),(184,151),(183,140),(181,131),(175,128),(171,118),(165,115),(158,102),
          (154,88),(154,70),(158,58),(168,48),(180,42),(190,33),(200,27),(215,20)]
CUP = [(285,18),(255,20),(225,29),(200,45),(183,68),(174,95),(173,115),(174,140),(178,165),(182,185),(186,200),
       (192,209),(200,220),(210,229),(219,235),(212,245),(205,255),(199,265),(196,280),(196,292),(201,301),(212,307),
       (223,308),(235,301),(246,291),(256,279),(262,282),(275,285),(285,286),(295,286),(305,284),(315,279),(325,271),
       (333,262),(337,256),(342,250),(350,246),(358,243),(366,239),(371,234),(374,225),(376,217),(383,205),(390,192),
       (397,175),(403,158),(407,140),(409,120),(409,106),(406.5,92),(400.5,79),(391,65.5),(377,51.5),(359.5,39),(341,29),(323,22),(305,18.5)]

def mask(img, poly, band, smooth=1.5):
    p = np.zeros(img.shape[:2], np.uint8)
    cv2.fillPoly(p, [np.round(np.array(poly, float) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    if band == 0:
        return p
    k = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1,) * 2)
    # replicate the border so that the photo's edge is not treated as an outline
    q = cv2.copyMakeBorder(p, band, band, band, band, cv2.BORDER_REPLICATE)
    inner = cv2.erode(q, k)[band:-band, band:-band]
    outer = cv2.dilate(q, k)[band:-band, band:-band]
    gc = np.where(inner > 0, cv2.GC_FGD, np.where(outer == 0, cv2.GC_BGD,
                  np.where(p > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD))).astype(np.uint8)
    cv2.grabCut(cv2.cvtColor(img, cv2.COLOR_RGB2BGR), gc, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    m = ((gc & 1) > 0).astype(np.float32)
    m = cv2.GaussianBlur(m, (0, 0), smooth, borderType=cv2.BORDER_REPLICATE) > 0.5
    n, lab, st, _ = cv2.connectedComponentsWithStats(m.astype(np.uint8))
    m = lab == 1 + np.argmax(st[1:, 4])
    n, lab, st, _ = cv2.connectedComponentsWithStats((~m).astype(np.uint8), connectivity=4)
    for i in range(1, n):
        if st[i, 4] < 60: m |= lab == i
    return m.astype(np.uint8)

def sources(bands=(3, 4, 0)):
    out = []
    for name, fn, poly, cls, band in (("chelsea", data.chelsea, CAT, 1, bands[0]),
                                      ("astronaut", data.astronaut, PERSON, 2, bands[1]),
                                      ("coffee", data.coffee, CUP, 3, bands[2])):
        img = np.ascontiguousarray(fn())
        out.append((name, img, mask(img, poly, band) * cls))
    return out


# The photo: three panels, 4-pixel white gutters labelled void.

def panel(img, lab, x0, y0, w, h, tw, th):
    i = img[y0:y0 + h, x0:x0 + w]
    l = lab[y0:y0 + h, x0:x0 + w]
    cls = int(l.max())
    i = cv2.resize(i, (tw, th), interpolation=cv2.INTER_AREA)
    m = cv2.resize((l > 0).astype(np.float32), (tw, th), interpolation=cv2.INTER_AREA) >= 0.5
    return i, m.astype(np.uint8) * cls


def compose(src):
    s = {n: (i, l) for n, i, l in src}
    img = np.full((H, W, 3), 255, np.uint8)
    lab = np.full((H, W), VOID, np.uint8)
    for name, (x0, y0, w, h), (dx, dy, tw, th) in (
            ("astronaut", (10, 0, 361, 512), (0, 0, 316, 448)),
            ("chelsea", (0, 0, 451, 299), (320, 0, 320, 212)),
            ("coffee", (8, 0, 552, 400), (320, 216, 320, 232))):
        img[dy:dy + th, dx:dx + tw], lab[dy:dy + th, dx:dx + tw] = panel(*s[name], x0, y0, w, h, tw, th)
    return img, lab


def photo():
    img, lab = compose(sources())
    Image.fromarray(img).save("photo.png", optimize=True)
    Image.fromarray(lab).save("labels.png", optimize=True)
    print("photo.png", os.path.getsize("photo.png"), "labels.png", os.path.getsize("labels.png"),
          "classes", np.unique(lab, return_counts=True))


# Training data: random views of the three photographs, cut-outs pasted over
# textures, and random panels.

class Views:
    def __init__(self, seed, size=(224, 256)):
        self.r = np.random.default_rng(seed)
        self.h, self.w = size
        self.src = [(i, l) for _, i, l in sources()]
        self.scale = [(0.45, 1.0), (0.5, 1.15), (0.35, 0.8)]
        self.tex = [np.repeat(np.asarray(f())[..., None], 3, 2) for f in (data.grass, data.gravel, data.brick)]
        self.bg = [np.asarray(f()) for f in (data.rocket, data.hubble_deep_field)]
        self.bg += [self.src[2][0][:, 440:], self.src[1][0][:, 370:]]      # table top, backdrop of the portrait

    def warp(self, img, lab, scale, centre=None, border=cv2.BORDER_REFLECT_101):
        """A random similarity + shear + flip; returns an (h, w) view."""
        r = self.r
        hh, ww = img.shape[:2]
        a = np.deg2rad(r.normal(0, 9))
        s = np.exp(r.uniform(np.log(scale[0]), np.log(scale[1])))
        sx, sy = s * np.exp(r.normal(0, .07)), s * np.exp(r.normal(0, .07))
        fl = -1 if r.random() < .5 else 1
        A = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.array([[sx * fl, r.normal(0, .05)], [0, sy]])
        c = centre if centre is not None else np.array([r.uniform(.1, .9) * ww, r.uniform(.1, .9) * hh])
        t = np.array([self.w / 2, self.h / 2]) - A @ c
        M = np.hstack([A, t[:, None]])
        src = img if s > 0.7 else cv2.GaussianBlur(img, (0, 0), 0.35 / s)
        i = cv2.warpAffine(src, M, (self.w, self.h), flags=cv2.INTER_LINEAR, borderMode=border)
        l = None if lab is None else cv2.warpAffine(lab, M, (self.w, self.h), flags=cv2.INTER_NEAREST,
                                                    borderMode=border)
        return i, l

    def texture(self):
        r = self.r
        if r.random() < .6:
            t = self.tex[r.integers(3)]
            i, _ = self.warp(t, None, (0.4, 1.6))
            a, b = r.uniform(0, 255, 3), r.uniform(0, 255, 3)               # two-colour ramp over the grey texture
            g = i[..., :1].astype(np.float32) / 255
            return (a * (1 - g) + b * g).astype(np.uint8)
        return self.warp(self.bg[r.integers(len(self.bg))], None, (0.4, 1.2))[0]

    def view(self):
        k = self.r.integers(3)
        return self.warp(*self.src[k], self.scale[k])

    def cutouts(self):
        r = self.r
        img = self.texture().astype(np.float32)
        lab = np.zeros((self.h, self.w), np.uint8)
        for k in r.permutation(3)[:r.integers(0, 3)]:
            i, l = self.src[k]
            ys, xs = np.nonzero(l)
            q = r.integers(len(ys))
            i, l = self.warp(i, l, self.scale[k], np.array([xs[q], ys[q]], float), cv2.BORDER_CONSTANT)
            m = cv2.GaussianBlur((l > 0).astype(np.float32), (0, 0), r.uniform(.6, 1.6))[..., None]
            img = img * (1 - m) + i * m
            lab = np.where(m[..., 0] > .5, k + 1, lab).astype(np.uint8)
        return img.astype(np.uint8), lab

    def panels(self):
        r = self.r
        img, lab = self.view() if r.random() < .7 else self.cutouts()
        b, c = self.view()
        g = int(r.integers(0, 7))
        col = r.integers(0, 256, 3) if r.random() < .5 else np.array([255, 255, 255])
        if r.random() < .5:
            x = int(r.uniform(.2, .8) * self.w)
            img[:, x:], lab[:, x:] = b[:, x:], c[:, x:]
            img[:, x:x + g], lab[:, x:x + g] = col, VOID
        else:
            y = int(r.uniform(.2, .8) * self.h)
            img[y:], lab[y:] = b[y:], c[y:]
            img[y:y + g], lab[y:y + g] = col, VOID
        return img, lab

    def jitter(self, img):
        r = self.r
        hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + r.normal(0, 9)) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * np.exp(r.normal(0, .3)), 0, 255)
        x = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
        x = 255 * np.power(np.clip(x / 255, 0, 1), np.exp(r.normal(0, .25)))
        x = (x - 128) * np.exp(r.normal(0, .2)) + 128 + r.normal(0, 14) + r.normal(0, 7, 3)
        if r.random() < .15:
            x = np.repeat(x.mean(2, keepdims=True), 3, 2)
        if r.random() < .3:
            x = cv2.GaussianBlur(x, (0, 0), r.uniform(.4, 1.6))
        x = x + r.normal(0, r.uniform(0, 8), x.shape)
        if r.random() < .35:                                                # a flat patch hides something
            hh, ww = int(r.uniform(20, 80)), int(r.uniform(20, 80))
            y, z = int(r.integers(0, self.h - hh)), int(r.integers(0, self.w - ww))
            x[y:y + hh, z:z + ww] = r.uniform(0, 255, 3)
        return np.clip(x, 0, 255)

    def sample(self):
        p = self.r.random()
        img, lab = self.view() if p < .4 else self.cutouts() if p < .7 else self.panels()
        x = (self.jitter(img).astype(np.float32) / 255 - MEAN) / STD
        return np.ascontiguousarray(x.transpose(2, 0, 1)), lab.astype(np.int64)

    def batch(self, n):
        b = [self.sample() for _ in range(n)]
        return np.stack([x for x, _ in b]), np.stack([l for _, l in b])


# The network: strided encoder to 1/32, per-scale 1x1 projections brought to
# 1/4 and fused (an all-MLP head), C logits at 1/4 resolution.

def network():
    import torch
    from torch import nn
    import torch.nn.functional as F

    def cbr(i, o, k=3, s=1, g=1):
        return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), nn.ReLU())

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = cbr(c, c, 5, 1, c), cbr(c, c * 2, 1)
            self.c, self.n = nn.Conv2d(c * 2, c, 1, bias=False), nn.BatchNorm2d(c)

        def forward(self, x):
            return F.relu(x + self.n(self.c(self.b(self.a(x)))))

    class Net(nn.Module):
        def __init__(self, ch=(16, 24, 40, 64, 80), d=32):
            super().__init__()
            self.stem = cbr(3, ch[0], 3, 2)
            self.s4 = nn.Sequential(cbr(ch[0], ch[1], 3, 2), Block(ch[1]))
            self.s8 = nn.Sequential(cbr(ch[1], ch[2], 3, 2), Block(ch[2]))
            self.s16 = nn.Sequential(cbr(ch[2], ch[3], 3, 2), Block(ch[3]), Block(ch[3]))
            self.s32 = nn.Sequential(cbr(ch[3], ch[4], 3, 2), Block(ch[4]), Block(ch[4]))
            self.p = nn.ModuleList(nn.Conv2d(c, d, 1) for c in ch[1:])
            self.fuse = cbr(4 * d, d, 1)
            self.drop = nn.Dropout2d(0.1)
            self.head = nn.Conv2d(d, C, 1)

        def forward(self, x):
            f = [self.s4(self.stem(x))]
            for s in (self.s8, self.s16, self.s32):
                f.append(s(f[-1]))
            up = [self.p[0](f[0])]
            for k in range(1, 4):
                up.append(F.interpolate(self.p[k](f[k]), scale_factor=float(2 ** k), mode="bilinear",
                                        align_corners=False))
            return self.head(self.drop(self.fuse(torch.cat(up, 1))))

    return Net()


def train(minutes=9.0, lr=4e-3, seed=7, init=None, steps=1200, batch=8):
    import torch
    import torch.nn.functional as F
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.makedirs("work", exist_ok=True)
    net, v = network(), Views(seed)
    if init:
        net.load_state_dict(torch.load(init))
    print("parameters", sum(p.numel() for p in net.parameters()))
    opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2)
    t0, acc, it = time.time(), 0.0, 0
    for it in range(steps):
        q = max(it / steps, (time.time() - t0) / (60 * minutes))
        if q >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = lr * min(1, (it + 1) / 50) * (1 - q) ** 0.9
        x, y = (torch.from_numpy(a) for a in v.batch(batch))
        z = F.interpolate(net(x), size=y.shape[1:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(z, y, ignore_index=VOID)
        opt.zero_grad()
        loss.backward()
        opt.step()
        acc = loss.item() if it == 0 else .97 * acc + .03 * loss.item()
        if it % 50 == 0:
            print(f"{it:5d} loss {acc:.4f}  {time.time() - t0:.0f} s", flush=True)
        if it % 200 == 199:
            torch.save(net.state_dict(), f"work/net_{it + 1}.pt")
    torch.save(net.state_dict(), "work/net.pt")
    print("steps", it + 1, "seconds", round(time.time() - t0))


def export(weights="work/net.pt", out="."):
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(1)
    os.makedirs(out, exist_ok=True)
    net = network()
    net.load_state_dict(torch.load(weights, map_location="cpu"))
    net.eval()
    img = np.asarray(Image.open("photo.png").convert("RGB"))
    lab = np.asarray(Image.open("labels.png"))
    x = torch.from_numpy(np.ascontiguousarray(((img.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1))[None])
    with torch.no_grad():
        z = net(x)
        up = F.interpolate(z, size=(H, W), mode="bilinear", align_corners=False)[0]
    lg = np.ascontiguousarray(z[0].numpy())
    assert lg.shape == (C, H // STRIDE, W // STRIDE) and lg.dtype == np.float32
    np.save(f"{out}/logits_f16.npy", lg.astype(np.float16))
    pred = up.argmax(0).numpy()
    prob = up.softmax(0).numpy()
    conf = prob.max(0)
    ok = lab != VOID
    cm = np.bincount(lab[ok].astype(int) * C + pred[ok], minlength=C * C).reshape(C, C)
    iou = np.diag(cm) / (cm.sum(0) + cm.sum(1) - np.diag(cm))
    nll = -np.log(np.maximum(np.take_along_axis(prob, np.where(ok, lab, 0)[None].astype(int), 0)[0], 1e-12))[ok].mean()
    u16 = F.interpolate(torch.from_numpy(lg.astype(np.float16).astype(np.float32))[None], size=(H, W), mode="bilinear",
                        align_corners=False)[0].argmax(0).numpy()
    m = {"iou": {n: round(float(i), 4) for n, i in zip(NAMES, iou)}, "miou": round(float(iou.mean()), 4),
         "pixel_accuracy": round(float(np.diag(cm).sum() / cm.sum()), 4), "nll": round(float(nll), 4),
         "confidence_below_0.9": round(float((conf < .9).mean()), 4),
         "confidence_below_0.6": round(float((conf < .6).mean()), 4),
         "logits_min": float(lg.min()), "logits_max": float(lg.max()),
         "argmax_pixels_changed_by_f16": int((u16 != pred).sum()),
         "confusion_rows_truth": cm.tolist(), "parameters": sum(p.numel() for p in net.parameters())}

    # ONNX, one file, checked against the array just written
    import onnx
    import onnxruntime as ort
    torch.onnx.export(net, (x,), f"{out}/model.onnx", opset_version=17, input_names=["image"], output_names=["logits"],
                      dynamo=False, do_constant_folding=True)
    g = onnx.load(f"{out}/model.onnx")
    for n in g.graph.node:                                                  # no local paths in the file
        n.doc_string = ""
        del n.metadata_props[:]
    onnx.save(g, f"{out}/model.onnx")
    onnx.checker.check_model(g, full_check=True)
    so = ort.SessionOptions()
    so.intra_op_num_threads = so.inter_op_num_threads = 1
    y = ort.InferenceSession(f"{out}/model.onnx", so, providers=["CPUExecutionProvider"]).run(["logits"], {"image": x.numpy()})[0]
    m["onnx_max_abs_difference"] = float(np.abs(y[0] - lg).max())
    m["onnx_opset"] = g.opset_import[0].version
    print(json.dumps(m, indent=1))


if __name__ == "__main__":
    what, args = sys.argv[1], sys.argv[2:]
    {"photo": photo, "train": lambda: train(*map(float, args[:2]), *map(int, args[2:3]), *args[3:4]), "export": lambda: export(*args)}[what]()
