-- SPDX-License-Identifier: MIT
-- Specs: tree/rockspec, regress/setinfo

return "0.1.0"
