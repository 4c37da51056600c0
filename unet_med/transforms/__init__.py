"""MONAI transforms, array and dictionary doors of the layers below."""
